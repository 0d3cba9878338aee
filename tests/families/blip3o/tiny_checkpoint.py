"""A published checkpoint of a very small BLIP3o with random weights: all parts, and a tokenizer of the shapes world."""

import functools
import json
import pathlib
import tempfile
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.weights.table import published_tensors
from srum_jax.worlds.shapes.tokenizer import build_tokenizer

_WORDS = build_tokenizer().get_vocab_size()
_NAMED = ("<|endoftext|>", "<|image_pad|>", "[IMG]", "[/IMG]", "<image>")
# Behind the words, in this order; as many as make a vocabulary that meshes divide.
_ADDED = (*(f"<|unused_{i}|>" for i in range(-(_WORDS + len(_NAMED)) % 8)), *_NAMED)
_TURN_END, _VISION_START, _VISION_END = 2, 3, 4
_FEATURES = 32  # width

DIT = {"input_size": 4, "in_channels": _FEATURES, "dim": 32, "n_layers": 2, "n_heads": 2, "multiple_of": 32}
EVA = {"vision_cfg": {"width": _FEATURES, "layers": 2, "head_width": 16, "mlp_ratio": 2.0, "image_size": 56,
                      "patch_size": 7}}
UNET = {
    "act_fn": "silu", "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "attention_head_dim": [1, 2],
    "block_out_channels": [8, 8], "cross_attention_dim": _FEATURES, "sample_size": 8, "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "use_linear_projection": True,
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_num_groups": 4, "projection_class_embeddings_input_dim": _FEATURES + 6 * 8,
    "transformer_layers_per_block": [1, 1], "flip_sin_to_cos": True, "freq_shift": 0,
}
VAE = {"act_fn": "silu", "block_out_channels": [4, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4,
       "mid_block_add_attention": True, "use_post_quant_conv": True}
SCHEDULER = {"beta_schedule": "scaled_linear", "prediction_type": "epsilon", "timestep_spacing": "leading"}
PICTURE_SIDE = 64  # pixels that it draws


def model(*, tied: bool = False) -> dict[str, Any]:
    """`config.json`."""
    vocab_size = _WORDS + len(_ADDED)
    return {
        "model_type": "blip3o_qwen", "vocab_size": vocab_size, "hidden_size": 64, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "tie_word_embeddings": tied, "n_query": 8,
        "max_position_embeddings": 512, "tokenizer_model_max_length": 128, "gen_vision_tower": "eva-clip-E-14-plus",
        "gen_hidden_size": _FEATURES, "gen_pooling": "early_pool2d_2", "pad_token_id": vocab_size - 5,
        "image_token_id": vocab_size - 4, "eos_token_id": _TURN_END, "vision_start_token_id": _VISION_START,
        "vision_end_token_id": _VISION_END,
        "vision_config": {"hidden_size": 32, "depth": 2, "num_heads": 2, "intermediate_size": 32,
                          "fullatt_block_indexes": [1], "out_hidden_size": 64, "window_size": 56},
    }


def write(directory: pathlib.Path, *, tied: bool = False, seed: int = 0) -> pathlib.Path:
    """Writes the checkpoint; returns its directory."""
    small = {
        "config.json": model(tied=tied), "dit_config.json": DIT, "eva_clip_config.json": EVA,
        "diffusion-decoder/unet/config.json": UNET, "diffusion-decoder/vae/config.json": VAE,
        "diffusion-decoder/scheduler/scheduler_config.json": SCHEDULER,
    }
    for name, fields in small.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(json.dumps(fields))
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens(list(_ADDED))
    (directory / "tokenizer.json").write_text(tokenizer.to_str())
    files: dict[str, dict[str, np.ndarray]] = {}
    for name, values in _tensors(directory, seed).items():
        home = BLIP3O.home_of(name)
        files.setdefault(home.glob, {})[name.removeprefix(home.prefix)] = values
    for file, content in files.items():
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        save_file(content, directory / file)
    return directory


def _tensors(directory: pathlib.Path, seed: int) -> dict[str, np.ndarray]:
    """Random float32 values under the published names, of a size that matters everywhere."""
    config, rng = BLIP3O.read_config(directory), np.random.default_rng(seed)
    found = {}
    for name, shape in published_tensors(BLIP3O.table, BLIP3O.shapes(config, BLIP3O.parts)).items():
        values = rng.standard_normal(shape).astype(np.float32)
        if len(shape) > 1:
            found[name] = values if "embed_tokens" in name or "queries" in name else values / np.prod(shape[1:])**0.5
        else:
            found[name] = 0.2 * values + (name.endswith("weight") or name.endswith(".gate"))
    # What it writes are words, so that texts can be read again as the same tokens: one channel tells all inputs from
    # nothing, and control tokens are unlikely there.
    found["model.embed_tokens.weight"][:, 0] = 8
    if "lm_head.weight" in found:
        special = [config.special_tokens.turn_start, *range(_VISION_START, _VISION_END + 1), 0,
                   *range(config.llm.vocab_size - len(_ADDED), config.llm.vocab_size)]
        found["lm_head.weight"] *= 3
        found["lm_head.weight"][special] = 0
        found["lm_head.weight"][special, 0] = -8
    return found


@functools.cache
def shared() -> pathlib.Path:
    """A directory of this process; not to be changed."""
    return write(pathlib.Path(_FOLDER.name) / "blip3o")


_FOLDER = tempfile.TemporaryDirectory(prefix="srum-tiny-blip3o-")
