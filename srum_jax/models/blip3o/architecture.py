"""BLIP3o as it is stored, built and laid out."""

from srum_jax.models.architecture import Architecture, Part, WeightFile
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.model import Blip3o
from srum_jax.models.blip3o.pixel_weights import UNET_PREFIX, VAE_PREFIX
from srum_jax.models.blip3o.weights import (
    DECODER_SOURCES,
    EVA_PREFIX,
    EVA_SOURCES,
    TABLE,
    VISION_SOURCES,
)
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.sharding import RULES

# What LoRA may name, of a layer of the diffusion transformer: self-attention's maps have no word before them.
_LAYER_MAPS = {name: f"self_{name}" for name in ("query", "key", "value")} | {
    name: name for name in ("cross_query", "cross_key", "cross_value", "out", "gate", "up", "down")}

BLIP3O = Architecture(
    name="blip3o",
    files=(
        WeightFile("model.safetensors"),
        WeightFile("model-*-of-*.safetensors"),
        WeightFile("eva_clip_vision_tower/model.safetensors", prefix=EVA_PREFIX, part="eva", pickled=True),
        WeightFile("diffusion-decoder/unet/diffusion_pytorch_model.bf16.safetensors", prefix=UNET_PREFIX,
                   part="decoder"),
        WeightFile("diffusion-decoder/vae/diffusion_pytorch_model.bf16.safetensors", prefix=VAE_PREFIX,
                   part="decoder"),
    ),
    table=TABLE,
    parts={
        "vision": Part("vision tower", VISION_SOURCES, frozenset({"read"})),
        "eva": Part("EVA-CLIP tower", EVA_SOURCES, frozenset({"encode"})),
        "decoder": Part("pixel decoder", DECODER_SOURCES, frozenset({"draw"})),
    },
    read_config=Blip3oConfig.from_directory,
    abstract=lambda config, parts: abstract_model(Blip3o, config, parts=parts),
    # The released vocabulary of 151,668 divides by no more than 4: the table, which is not trained, is replicated.
    rules={**RULES, "vocab_in": ()},
    trainable={
        # As the official freezing sequence leaves it: the language model only passes the gradient on.
        "default": ("dit.*", "queries.*"),
        # The condition of a prompt is then a constant.
        "dit": ("dit.*",),
    },
    never_trained=("vision.*", "eva.*", "decoder.*"),
    linear_maps={name: f"dit.layers.{path}" for name, path in _LAYER_MAPS.items()},
    encoder="eva.",
)
