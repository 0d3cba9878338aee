"""A random start of a tiny BAGEL for the shapes world, in the layout of the released checkpoint.

The language model, the vision tower and the rest start at random; `llm2vae` starts at zero and the generation expert as
a copy of the understanding expert, as in a new BAGEL (SRUM starts from a trained one, for which this is no substitute).
Its autoencoder is that of the trained base: four pixels a latent cell, so one latent token covers 8 x 8 pixels.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from safetensors.numpy import load, save

from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.sincos_table import sincos_table
from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.weights.table import published_tensors
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.tokenizer import SPECIAL_TOKENS, tokenizer_files

# What all tiny BAGELs of this world have in common; widths and sizes are added to it.
LLM: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "vocab_size": 160,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "bos_token_id": SPECIAL_TOKENS.bos,
    "eos_token_id": SPECIAL_TOKENS.eos,
}
VIT: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,  # as in the release, the last one is counted, and neither stored nor used
    "num_attention_heads": 4,
    "num_channels": 3,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
MODEL: dict[str, Any] = {
    "architectures": ["Bagel"],
    "model_type": "bagel",
    "visual_gen": True,
    "visual_und": True,
    "llm_qk_norm": True,
    "layer_module": "Qwen2MoTDecoderLayer",
    "tie_word_embeddings": False,
    "vit_select_layer": -2,
    "vit_rope": False,
    "special_token_ids": {
        "bos_token_id": SPECIAL_TOKENS.bos,
        "eos_token_id": SPECIAL_TOKENS.eos,
        "start_of_image": SPECIAL_TOKENS.start_of_image,
        "end_of_image": SPECIAL_TOKENS.end_of_image,
    },
    "connector_act": "gelu_pytorch_tanh",
    "interpolate_pos": False,
    "timestep_shift": 1.0,
}
_LLM = LLM | {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6}
_VIT = VIT | {"image_size": 140, "patch_size": 14}
_MODEL = MODEL | {"latent_patch_size": 2, "max_latent_size": 16, "vit_max_num_patch_per_side": 10}
_TWIN = "_moe_gen"  # in the name of what the generation expert has of its own


def base_config() -> BagelConfig:
    """The configuration that `write_base` writes."""
    vae = json.loads((trained_base() / "vae_config.json").read_text())
    return BagelConfig.from_json(llm=_LLM, vit=_VIT, vae=vae, model=_MODEL, source="shapes")


def write_base(directory: epath.PathLike, seed: int = 0) -> epath.Path:
    """Writes the tiny model; equal seeds give equal bytes. The directory appears complete or not at all.

    Args:
      directory: a local path that does not exist yet.
      seed: of the random start.

    Returns:
      The directory.

    Raises:
      FileExistsError: the directory exists.
    """
    directory = epath.Path(directory)
    shapes = published_tensors(BAGEL.table, BAGEL.shapes(base_config(), BAGEL.parts))
    autoencoder = (trained_base() / "ae.safetensors").read_bytes()
    trained = load(autoencoder)
    started = _model_tensors(np.random.Generator(np.random.Philox(key=[seed, 0])),
                             {name: shape for name, shape in shapes.items() if name not in trained})
    started = {name: np.ascontiguousarray(values, np.float32) for name, values in started.items()}
    weight_map = dict.fromkeys(started, "ema.safetensors") | dict.fromkeys(trained, "ae.safetensors")
    index = {"metadata": {"total_size": sum(values.nbytes for values in (*started.values(), *trained.values()))},
             "weight_map": dict(sorted(weight_map.items()))}
    with atomic_directory(directory) as temporary:
        (temporary / "ema.safetensors").write_bytes(save(started))
        (temporary / "ae.safetensors").write_bytes(autoencoder)
        (temporary / "vae_config.json").write_bytes((trained_base() / "vae_config.json").read_bytes())
        for file, values in (
            ("llm_config.json", _LLM),
            ("vit_config.json", _VIT),
            ("config.json", _MODEL),
            ("model.safetensors.index.json", index),
        ):
            (temporary / file).write_text(json.dumps(values, indent=2) + "\n")
        for file, text in tokenizer_files().items():
            (temporary / file).write_text(text)
    return directory


def _model_tensors(rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """All tensors of the model's own file, linear weights (out, in)."""
    tensors = {name: _start(rng, name, shape) for name, shape in shapes.items() if _TWIN not in name}
    return {name: tensors[name.replace(_TWIN, "")] for name in shapes}


def _start(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("pos_embed.pos_embed"):
        return sincos_table(shape[1], math.isqrt(shape[0]))
    if name.endswith(".bias") or name.startswith("llm2vae."):
        return np.zeros(shape)
    if len(shape) == 1:
        return np.ones(shape)  # the scale of a normalisation
    scale = 1 / np.sqrt(shape[1])
    if name.endswith("embed_tokens.weight"):
        scale = 1.0
    elif name.endswith("position_embedding.weight"):
        scale = 0.1
    elif name.endswith(("o_proj.weight", "down_proj.weight")):
        scale /= np.sqrt(2 * _LLM["num_hidden_layers"])  # so that the sum over all layers keeps about unit scale
    return scale * rng.standard_normal(shape)
