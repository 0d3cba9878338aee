"""A published checkpoint of a very small BAGEL with random weights, for tests that need no golden data."""

import json
import pathlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.weights.table import published_tensors

LLM = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
       "num_attention_heads": 4, "num_key_value_heads": 2}
VIT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
       "image_size": 28, "patch_size": 14}
VAE = {
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "z_channels": 4,
    "scale_factor": 0.36,
    "shift_factor": 0.1,
}
MODEL = {"max_latent_size": 4, "vit_max_num_patch_per_side": 2,
         "special_token_ids": {"bos_token_id": 1, "eos_token_id": 2, "start_of_image": 3, "end_of_image": 4}}


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Random bfloat16 model weights and float32 autoencoder weights under the published names."""
    config = BagelConfig.from_json(llm=LLM, vit=VIT, vae=VAE, model=MODEL)
    shapes = published_tensors(BAGEL.table, BAGEL.shapes(config, BAGEL.parts))
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(shape).astype(
            np.float32 if BAGEL.part_of(name) == "vae" else ml_dtypes.bfloat16
        )
        for name, shape in shapes.items()
    }


def write(
    directory: pathlib.Path, content: dict[str, np.ndarray] | None = None, seed: int = 0
) -> pathlib.Path:
    """Writes the checkpoint, with some tokenizer files; returns its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    content = tensors(seed) if content is None else content
    is_vae = {name: BAGEL.part_of(name) == "vae" for name in content}
    save_file(
        {name: value for name, value in content.items() if not is_vae[name]}, directory / "ema.safetensors"
    )
    save_file({name: value for name, value in content.items() if is_vae[name]}, directory / "ae.safetensors")
    for name, fields in (("llm", LLM), ("vit", VIT), ("vae", VAE)):
        (directory / f"{name}_config.json").write_text(json.dumps(fields))
    (directory / "config.json").write_text(json.dumps(MODEL))
    (directory / "vocab.json").write_text('{"a": 0}')
    (directory / "merges.txt").write_text("#version: 0.2\n")
    index = {
        "weight_map": {name: "ae.safetensors" if vae else "ema.safetensors" for name, vae in is_vae.items()}
    }
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory
