"""The tiny BAGELs of the shapes world, in the layout of the released checkpoint.

`trained_base` is the one that ships with the package: it draws and judges pictures of 48 x 48 pixels; how it was made
and what it can do is in `recipe.json` beside its weights (see `experiments/tiny_pretrain.py`).

`write_base` makes a random start for pictures of any size. The language model, the vision tower and the rest start at
random; `llm2vae` starts at zero and the generation expert as a copy of the understanding expert, as in a new BAGEL
(SRUM starts from a trained one, for which this is no substitute). Its autoencoder is described in `patch_encoder`: four
pixels a latent cell, so one latent token covers 8 x 8 pixels.
"""

import json
from typing import Any

import numpy as np
from etils import epath
from safetensors.numpy import save

from srum_jax.errors import BadInput
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.sincos_table import sincos_table
from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.worlds.shapes.model_files import LLM, MODEL, VIT
from srum_jax.worlds.shapes.patch_encoder import CONFIG as AUTOENCODER
from srum_jax.worlds.shapes.patch_encoder import autoencoder_tensors
from srum_jax.worlds.shapes.tokenizer import tokenizer_files

_LLM = LLM | {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6}
_VIT = VIT | {"image_size": 140, "patch_size": 14}
_VAE = {
    "in_channels": AUTOENCODER.in_channels,
    "out_ch": AUTOENCODER.out_ch,
    "ch": AUTOENCODER.ch,
    "ch_mult": list(AUTOENCODER.ch_mult),
    "num_res_blocks": AUTOENCODER.num_res_blocks,
    "z_channels": AUTOENCODER.z_channels,
    "downsample": AUTOENCODER.downsample,
    "scale_factor": AUTOENCODER.scale_factor,
    "shift_factor": AUTOENCODER.shift_factor,
}
_MODEL = MODEL | {"latent_patch_size": 2, "max_latent_size": 16, "vit_max_num_patch_per_side": 10}
_TIME_FREQUENCIES = 256
RECIPE = "recipe.json"
_WEIGHT_FILES = ("ema.safetensors", "ae.safetensors")


class BaseError(BadInput):
    """What ships with the package is absent or damaged."""


def trained_base() -> epath.Path:
    """The directory of the trained base.

    Raises:
      BaseError: the package was installed without it.
    """
    return _shipped("base_weights", "base")


def trained_sam() -> epath.Path:
    """The directory of the trained Segment Anything, which finds regions in pictures of this world.

    `tools.make_rewards segment --sam-model` takes it; `experiments/tiny_sam.py` has made it.

    Raises:
      BaseError: the package was installed without it.
    """
    return _shipped("sam_weights", "Segment Anything")


def _shipped(name: str, what: str) -> epath.Path:
    directory = epath.Path(__file__).parent / name
    if not (directory / RECIPE).exists():
        raise BaseError(f"{directory}: expected the trained {what} of the shapes world with its {RECIPE}, found "
                        "nothing; install srum_jax with its package data.")
    return directory


def check_trained_base(directory: epath.PathLike) -> None:
    """Compares all files of a trained base, or of the trained Segment Anything, with the checksums in its recipe.

    Raises:
      BaseError: naming every file that is absent or changed.
    """
    directory = epath.Path(directory)
    problems = []
    for name, expected in json.loads((directory / RECIPE).read_text())["sha256"].items():
        path = directory / name
        found = file_sha256(path) if path.exists() else "no such file"
        if found != expected:
            problems.append(f"{name}: expected sha256 {expected}, found {found}")
    if problems:
        raise BaseError(f"{directory}: damaged; copy it again: " + "; ".join(problems))


def base_config() -> BagelConfig:
    """The configuration that `write_base` writes."""
    return BagelConfig.from_json(llm=_LLM, vit=_VIT, vae=_VAE, model=_MODEL, source="shapes")


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
    with atomic_directory(directory) as temporary:
        generators = (np.random.Generator(np.random.Philox(key=[seed, stream])) for stream in range(2))
        contents = [bagel_tensors(next(generators)), autoencoder_tensors(next(generators))]
        names, size = {}, 0
        for file, tensors in zip(_WEIGHT_FILES, contents, strict=True):
            (temporary / file).write_bytes(save(tensors))
            names |= dict.fromkeys(tensors, file)
            size += sum(values.nbytes for values in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(names.items()))}
        for file, values in (
            ("llm_config.json", _LLM),
            ("vit_config.json", _VIT),
            ("vae_config.json", _VAE),
            ("config.json", _MODEL),
            ("model.safetensors.index.json", index),
        ):
            _write_json(temporary / file, values)
        for file, text in tokenizer_files().items():
            (temporary / file).write_text(text)
    return directory


def bagel_tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All tensors of `ema.safetensors` in float32, linear weights (out, in)."""
    width, vision_width = _LLM["hidden_size"], _VIT["hidden_size"]
    latent_values = AUTOENCODER.z_channels * _MODEL["latent_patch_size"] ** 2
    tensors = _language_model(rng)
    tensors |= _linear(rng, "time_embedder.mlp.0", _TIME_FREQUENCIES, width)
    tensors |= _linear(rng, "time_embedder.mlp.2", width, width)
    tensors |= _linear(rng, "vae2llm", latent_values, width)
    tensors |= {"llm2vae.weight": np.zeros((latent_values, width)), "llm2vae.bias": np.zeros(latent_values)}
    tensors |= _linear(rng, "connector.fc1", vision_width, width) | _linear(
        rng, "connector.fc2", width, width
    )
    tensors |= _vision_tower(rng)
    tensors["latent_pos_embed.pos_embed"] = sincos_table(width, _MODEL["max_latent_size"])
    tensors["vit_pos_embed.pos_embed"] = sincos_table(width, _MODEL["vit_max_num_patch_per_side"])
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in tensors.items()}


def _language_model(rng: np.random.Generator) -> dict[str, np.ndarray]:
    width, hidden, layers = _LLM["hidden_size"], _LLM["intermediate_size"], _LLM["num_hidden_layers"]
    head = width // _LLM["num_attention_heads"]
    outputs = {"q": width, "k": head * _LLM["num_key_value_heads"], "v": head * _LLM["num_key_value_heads"]}
    residual_scale = 1 / np.sqrt(2 * layers)  # so that the sum over all layers keeps about unit scale
    model = "language_model.model"
    tensors = {
        f"{model}.embed_tokens.weight": rng.standard_normal((_LLM["vocab_size"], width)),
        "language_model.lm_head.weight": rng.standard_normal((_LLM["vocab_size"], width)) / np.sqrt(width),
    }
    for suffix in ("", "_moe_gen"):
        tensors[f"{model}.norm{suffix}.weight"] = np.ones(width)
    for layer in range(layers):
        own = {"input_layernorm.weight": np.ones(width), "post_attention_layernorm.weight": np.ones(width)}
        for name, size in outputs.items():
            own |= _linear(rng, f"self_attn.{name}_proj", width, size)
        own |= _linear(rng, "self_attn.o_proj", width, width, residual_scale, bias=False)
        own |= {f"self_attn.{name}_norm.weight": np.ones(head) for name in ("q", "k")}
        for name in ("gate", "up"):
            own |= _linear(rng, f"mlp.{name}_proj", width, hidden, bias=False)
        own |= _linear(rng, "mlp.down_proj", hidden, width, residual_scale, bias=False)
        for name, values in own.items():
            tensors[f"{model}.layers.{layer}.{name}"] = values
            tensors[f"{model}.layers.{layer}.{_generation_name(name)}"] = values
    return tensors


def _generation_name(name: str) -> str:
    """The twin's name: `_moe_gen` follows the name of the module, which for the MLP is the MLP itself."""
    if name.startswith("mlp."):
        return name.replace("mlp.", "mlp_moe_gen.", 1)
    module, kind = name.rsplit(".", 1)
    return f"{module}_moe_gen.{kind}"


def _vision_tower(rng: np.random.Generator) -> dict[str, np.ndarray]:
    width, hidden = _VIT["hidden_size"], _VIT["intermediate_size"]
    layers = _VIT["num_hidden_layers"] + 1 + _MODEL["vit_select_layer"]
    tower = "vit_model.vision_model"
    tensors = _linear(
        rng, f"{tower}.embeddings.patch_embedding", _VIT["patch_size"] ** 2 * _VIT["num_channels"], width
    )
    positions = (_VIT["image_size"] // _VIT["patch_size"]) ** 2
    tensors[f"{tower}.embeddings.position_embedding.weight"] = 0.1 * rng.standard_normal((positions, width))
    for layer in range(layers):
        prefix = f"{tower}.encoder.layers.{layer}"
        for name in ("q", "k", "v", "out"):
            tensors |= _linear(rng, f"{prefix}.self_attn.{name}_proj", width, width)
        tensors |= _linear(rng, f"{prefix}.mlp.fc1", width, hidden) | _linear(
            rng, f"{prefix}.mlp.fc2", hidden, width
        )
        tensors |= _layer_norm(f"{prefix}.layer_norm1", width) | _layer_norm(f"{prefix}.layer_norm2", width)
    return tensors | _layer_norm(f"{tower}.post_layernorm", width)


def _linear(
    rng: np.random.Generator, name: str, before: int, after: int, scale: float = 1.0, bias: bool = True
) -> dict[str, np.ndarray]:
    tensors = {f"{name}.weight": scale * rng.standard_normal((after, before)) / np.sqrt(before)}
    return tensors | {f"{name}.bias": np.zeros(after)} if bias else tensors


def _layer_norm(name: str, width: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ones(width), f"{name}.bias": np.zeros(width)}


def _write_json(path: epath.Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
