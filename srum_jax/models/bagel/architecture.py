"""BAGEL as it is stored, built and laid out."""

from srum_jax.models.architecture import Architecture, Part, WeightFile
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.bagel.weights import AUTOENCODER_SOURCES, TABLE, VISION_SOURCES
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.sharding import RULES

# Of every layer of the generation expert.
_EXPERT_MAPS = ("query", "key", "value", "out", "gate", "up", "down")
_PROJECTIONS = ("time_embedder.*", "vae2llm.*", "llm2vae.*")

BAGEL = Architecture(
    name="bagel",
    files=(
        WeightFile("ema.safetensors"),
        WeightFile("model.safetensors"),
        WeightFile("ema-*-of-*.safetensors"),
        WeightFile("model-*-of-*.safetensors"),
        WeightFile("ae.safetensors", part="vae"),
    ),
    table=TABLE,
    parts={
        "vit": Part("vision tower", VISION_SOURCES, frozenset({"read"})),
        "vae": Part("autoencoder", AUTOENCODER_SOURCES, frozenset({"train", "draw"})),
    },
    read_config=BagelConfig.from_directory,
    abstract=lambda config, parts: abstract_model(Bagel, config, parts=parts),
    rules=RULES,
    trainable={
        # Both experts, embeddings and heads, and the latent projections.
        "default": ("llm.*", *_PROJECTIONS),
        # The same without the understanding expert, which then cannot forget.
        "generation_expert": ("llm.layers.gen.*", "llm.gen_norm.*", *_PROJECTIONS),
    },
    never_trained=("vae.*", "vit.*"),  # the reference keeps both fixed in its recipes
    linear_maps={name: f"llm.layers.gen.{name}" for name in _EXPERT_MAPS}
    | {name: name for name in ("time_embedder.fc1", "time_embedder.fc2", "vae2llm", "llm2vae")},
    encoder="vae.encoder.",
    float32=("vae.",),
)
