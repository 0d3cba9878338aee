"""Writes trained parts as a checkpoint in a published layout, and what the oracle says of it beside them."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from safetensors.numpy import save

from experiments._tiny_bases.measure import measure_base
from experiments._tiny_bases.stage_loop import PROGRESS
from srum_jax.models.architecture import Architecture
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.storage.atomic_file import file_sha256, write_json
from srum_jax.weights.table import SourceTensor, make_plan, published_tensors
from srum_jax.weights.weight_files import INDEX
from srum_jax.worlds.shapes.base import RECIPE


def write_base(
    directory: epath.PathLike, architecture: Architecture, config: Any, state: nnx.State, *,
    small_files: Mapping[str, str], float32: str, recipe: dict[str, Any],
) -> epath.Path:
    """Writes a checkpoint; the directory appears complete or not at all.

    Args:
      directory: a local path that does not exist yet.
      architecture: of the model.
      config: of the model.
      state: all variables of the model, with all parts.
      small_files: names and contents of the files beside the weights.
      float32: the part whose values are kept in float32; all others become float16.
      recipe: how it was made; stored with the checksums of all files as `recipe.json`.

    Raises:
      FileExistsError: the directory exists.
    """
    directory = epath.Path(directory)
    with atomic_directory(directory) as temporary:
        names, size = {}, 0
        for file, tensors in _tensors_by_file(architecture, config, state, float32).items():
            (temporary / file).write_bytes(save(tensors))
            names |= dict.fromkeys(tensors, file)
            size += sum(values.nbytes for values in tensors.values())
        for file, text in small_files.items():
            (temporary / file).write_text(text)
        if len(set(names.values())) > 1:
            index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(names.items()))}
            (temporary / INDEX).write_text(as_text(index))
        sums = {path.name: file_sha256(path) for path in sorted(temporary.iterdir())}
        (temporary / RECIPE).write_text(as_text(recipe | {"sha256": sums}))
    return directory


def recipe_of(out: epath.Path, stages: Sequence[str]) -> dict[str, Any]:
    """How a base was made: the settings that each stage was run with, as it noted them.

    Args:
      out: of the run.
      stages: with a folder each.
    """
    progress = {name: json.loads((out / name / PROGRESS).read_text()) for name in stages}
    return {
        "made_by": "python -m experiments.tiny_pretrain",
        "steps_done": {name: entry["step"] for name, entry in progress.items()},
        "minutes": {name: round(entry["seconds"] / 60, 1) for name, entry in progress.items()},
        **{name: entry["settings"] for name, entry in progress.items()},
    }


def measure_written(base: epath.Path, images: int) -> None:
    """Puts what the oracle says of a base into its recipe; not with 0 images."""
    print(f"wrote {os.fspath(base)}")
    if images:
        measured = measure_base(base, images)
        write_json(base / RECIPE, json.loads((base / RECIPE).read_text()) | {"measured": measured})
        print(json.dumps(measured, indent=2))


def as_text(values: Mapping[str, Any]) -> str:
    """A JSON file of these values."""
    return json.dumps(values, indent=2) + "\n"


def _tensors_by_file(
    architecture: Architecture, config: Any, state: nnx.State, float32: str
) -> dict[str, dict[str, np.ndarray]]:
    """Published names and values: the key table read backwards."""
    shapes = architecture.shapes(config, architecture.parts)
    values = {dotted(path): np.asarray(jax.device_get(variable.get_value()))
              for path, variable in nnx.to_flat_state(state)}
    sources = {name: SourceTensor(np.dtype(np.float32), shape, "shapes")
               for name, shape in published_tensors(architecture.table, shapes).items()}
    files: dict[str, dict[str, np.ndarray]] = {}
    for target, pieces in make_plan(architecture.table, sources, shapes, "shapes").pieces.items():
        for piece in pieces:
            source = piece.source
            dtype = np.float32 if architecture.part_of(source) == float32 else np.float16
            tensors = files.setdefault(architecture.home_of(source).glob, {})
            value = values[target] if piece.layer is None else values[target][piece.layer]
            tensors.setdefault(source, np.empty(piece.source_shape, dtype))[piece.own] = piece.to_source(value)
    return files
