"""Janus-Pro as it is stored, built and laid out."""

from srum_jax.models.architecture import Architecture, Part, WeightFile
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.models.janus_pro.weights import COMMUNITY_TABLE, TABLE, VISION_SOURCES, VQ_SOURCES
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.sharding import RULES

_DECODER_MAPS = ("query", "key", "value", "out", "gate", "up", "down")  # of every layer
_GENERATION = ("gen_embed.*", "gen_aligner.*", "gen_head.*")

JANUS_PRO = Architecture(
    name="janus_pro",
    files=(
        # The authors' releases are pickled; `tools.convert_weights` makes these of them.
        WeightFile("model.safetensors"),
        WeightFile("model-*-of-*.safetensors"),
    ),
    table=TABLE,
    other_tables=(COMMUNITY_TABLE,),
    parts={
        "vision": Part("vision tower", VISION_SOURCES, frozenset({"read"})),
        "vq": Part("picture tokenizer", VQ_SOURCES, frozenset({"train", "draw"})),
    },
    read_config=JanusConfig.from_directory,
    abstract=lambda config, parts: abstract_model(JanusPro, config, parts=parts),
    rules=RULES,
    trainable={
        # Whatever the likelihoods of texts and of codes depend on, but the tower.
        "default": ("llm.*", "aligner.*", *_GENERATION),
        # The authors' last stage: everything but the picture tokenizer.
        "with_tower": ("llm.*", "aligner.*", "vision.*", *_GENERATION),
    },
    never_trained=("vq.*",),
    linear_maps={name: f"llm.layers.{name}" for name in _DECODER_MAPS}
    | {"gen_head.fc1": "gen_head.fc1", "gen_head.fc2": "gen_head.fc2"},
    encoder="vq.encoder.",
    float32=("vq.",),
)
