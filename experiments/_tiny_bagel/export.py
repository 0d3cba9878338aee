"""Writes the trained parts as a BAGEL checkpoint in the published layout."""

import json
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from safetensors.numpy import save

from experiments._tiny_bagel.base_files import trained_base_config, trained_base_files
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.weights.table import SourceTensor, make_plan, published_tensors
from srum_jax.weights.weight_files import INDEX
from srum_jax.worlds.shapes.base import RECIPE
from srum_jax.worlds.shapes.tokenizer import tokenizer_files


def write_trained_base(
    directory: epath.PathLike, state: nnx.State, scale: float, shift: float, recipe: dict[str, Any]
) -> epath.Path:
    """Writes a checkpoint; the directory appears complete or not at all.

    Args:
      directory: a local path that does not exist yet.
      state: all variables of the model, autoencoder included.
      scale, shift: of the latents.
      recipe: how it was made; stored with the checksums of all files as `recipe.json`.

    Raises:
      FileExistsError: the directory exists.
    """
    directory = epath.Path(directory)
    with atomic_directory(directory) as temporary:
        names, size = {}, 0
        for file, tensors in _tensors_by_file(state).items():
            (temporary / file).write_bytes(save(tensors))
            names |= dict.fromkeys(tensors, file)
            size += sum(values.nbytes for values in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(names.items()))}
        for file, values in (trained_base_files(scale, shift) | {INDEX: index}).items():
            (temporary / file).write_text(json.dumps(values, indent=2) + "\n")
        for file, text in tokenizer_files().items():
            (temporary / file).write_text(text)
        sums = {path.name: file_sha256(path) for path in sorted(temporary.iterdir())}
        (temporary / RECIPE).write_text(json.dumps(recipe | {"sha256": sums}, indent=2) + "\n")
    return directory


def _tensors_by_file(state: nnx.State) -> dict[str, dict[str, np.ndarray]]:
    """Published names and values: the key table read backwards."""
    shapes = BAGEL.shapes(trained_base_config(), BAGEL.parts)
    values = {dotted(path): np.asarray(jax.device_get(variable.get_value()))
              for path, variable in nnx.to_flat_state(state)}
    sources = {
        name: SourceTensor(np.dtype(np.float32), shape, "shapes") for name, shape in
        published_tensors(BAGEL.table, shapes).items()
    }
    files: dict[str, dict[str, np.ndarray]] = {}
    for target, pieces in make_plan(BAGEL.table, sources, shapes, "shapes").pieces.items():
        for piece in pieces:
            home = BAGEL.home_of(piece.source)
            value = values[target] if piece.layer is None else values[target][piece.layer]
            dtype = np.float32 if home.part == "vae" else np.float16
            files.setdefault(home.glob, {})[piece.source] = np.ascontiguousarray(piece.to_source(value), dtype)
    return files
