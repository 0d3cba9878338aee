"""A published checkpoint of a very small Janus-Pro: random weights, all parts, a tokenizer of the shapes world."""

import functools
import json
import pathlib
import tempfile
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken

from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.models.janus_pro.prompts import ASSISTANT, USER
from srum_jax.models.janus_pro.tokens import NAMES
from srum_jax.weights.table import published_tensors
from srum_jax.worlds.shapes.tokenizer import LINE_END, build_tokenizer

_WORDS = build_tokenizer().get_vocab_size()
_NAMED = (*NAMES.values(), USER, ASSISTANT)
# Behind the words, in this order; as many as make a vocabulary that meshes divide.
_ADDED = (*(f"<|unused_{i}|>" for i in range(-(_WORDS + len(_NAMED)) % 8)), *_NAMED)
SIGLIP = {"width": 32, "layers": 2, "heads": 2, "patch_size": 16, "image_size": 48, "mlp_ratio": 2}
VQ = {"ch": 8, "ch_mult": [1, 1, 1, 2], "num_res_blocks": 1, "z_channels": 8, "num_groups": 4, "codebook_size": 64,
      "codebook_embed_dim": 8, "grid": 6}
PICTURE_SIDE = 48  # pixels that it draws
_WIDTH, _HEAD_WIDTH = 64, 48


def _block(kind: str, **params: Any) -> dict[str, Any]:
    return {"cls": kind, "params": params}


MODEL = {
    "model_type": "multi_modality",
    "language_config": {"vocab_size": _WORDS + len(_ADDED), "hidden_size": _WIDTH, "intermediate_size": 64,
                        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                        "max_position_embeddings": 512},
    "vision_config": _block("CLIPVisionTower", image_size=48, model_name="made up", select_layer=-1),
    "aligner_config": _block("MlpProjector", depth=2, input_dim=32, n_embed=_WIDTH, projector_type="mlp_gelu"),
    "gen_vision_config": _block("VQ-16", image_token_size=64, n_embed=8),
    "gen_aligner_config": _block("MlpProjector", depth=2, input_dim=8, n_embed=_WIDTH, projector_type="mlp_gelu"),
    "gen_head_config": _block("vision_head", image_token_embed=_HEAD_WIDTH, image_token_size=64, n_embed=_WIDTH),
}


def write(directory: pathlib.Path, seed: int = 0) -> pathlib.Path:
    """Writes the checkpoint; returns its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, fields in (("config", MODEL), ("siglip_config", SIGLIP), ("vq_config", VQ)):
        (directory / f"{name}.json").write_text(json.dumps(fields))
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _ADDED])
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
    special = [*range(5), line_end, *range(config.llm.vocab_size - len(_ADDED), config.llm.vocab_size)]
    head *= 3
    head[special] = 0
    head[special, 0] = -8
    return found


@functools.cache
def shared() -> pathlib.Path:
    """A directory of this process; not to be changed."""
    return write(pathlib.Path(_FOLDER.name) / "janus_pro")


_FOLDER = tempfile.TemporaryDirectory(prefix="srum-tiny-janus-")
