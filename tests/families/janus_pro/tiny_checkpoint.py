"""A published checkpoint of a very small Janus-Pro: random weights, all parts, a tokenizer of the shapes world."""

import functools
import json
import pathlib
import tempfile

import numpy as np
from safetensors.numpy import save_file

from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.weights.table import published_tensors
from srum_jax.worlds.shapes.bases.janus_pro import ADDED, janus_files, janus_tokenizer
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.tokenizer import LINE_END

PICTURE_SIDE = PICTURE_SIZE  # pixels that it draws
FILES = janus_files(
    llm={"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512},
    tower={"width": 32, "layers": 2, "heads": 2, "patch_size": 16, "image_size": 48, "mlp_ratio": 2},
    vq={"ch": 8, "ch_mult": [1, 1, 1, 2], "num_res_blocks": 1, "z_channels": 8, "num_groups": 4, "codebook_size": 64,
        "codebook_embed_dim": 8, "grid": 6},
    head_width=48,
)


def write(directory: pathlib.Path, seed: int = 0) -> pathlib.Path:
    """Writes the checkpoint; returns its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, fields in FILES.items():
        (directory / name).write_text(json.dumps(fields))
    tokenizer = janus_tokenizer()
    (directory / "tokenizer.json").write_text(tokenizer.to_str())
    save_file(_tensors(directory, tokenizer.token_to_id(LINE_END), seed), directory / "model.safetensors")
    return directory


def _tensors(directory: pathlib.Path, line_end: int, seed: int) -> dict[str, np.ndarray]:
    """Random float32 values under the published names, of a size that matters everywhere."""
    config, rng = JANUS_PRO.read_config(directory), np.random.default_rng(seed)
    found = {}
    for name, shape in published_tensors(JANUS_PRO.table, JANUS_PRO.shapes(config, JANUS_PRO.parts)).items():
        values = rng.standard_normal(shape).astype(np.float32)
        if len(shape) > 1:
            found[name] = values if "embed" in name else values / np.float32(np.prod(shape[1:])**0.5)
        else:
            found[name] = 0.2 * values + name.endswith("weight")
    # What it writes are words, so that texts can be read again as the same tokens: one channel tells all inputs from
    # nothing, and control tokens are unlikely there.
    found["language_model.model.embed_tokens.weight"][:, 0] = 8
    head = found["language_model.lm_head.weight"]
    special = [*range(5), line_end, *range(config.llm.vocab_size - len(ADDED), config.llm.vocab_size)]
    head *= 3
    head[special] = 0
    head[special, 0] = -8
    return found


@functools.cache
def shared() -> pathlib.Path:
    """A directory of this process; not to be changed."""
    return write(pathlib.Path(_FOLDER.name) / "janus_pro")


_FOLDER = tempfile.TemporaryDirectory(prefix="srum-tiny-janus-")
