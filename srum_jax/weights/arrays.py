"""The arrays of a model, read region by region from whatever holds them."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath

from srum_jax.weights.converted import MANIFEST, ConvertedSource, is_converted
from srum_jax.weights.dtypes import cast
from srum_jax.weights.errors import WeightsError, raise_together
from srum_jax.weights.huggingface import HuggingFaceSource
from srum_jax.weights.model_kind import ModelKind
from srum_jax.weights.safetensors_read import Region, region_bounds
from srum_jax.weights.table import Plan, make_plan

# Layers of a stacked array that are read at the same time; hides the latency of remote storage.
_CONCURRENT_LAYERS = 4
# What a conversion holds beside the tensor that it works on.
_BLOCK_BYTES = 64 * 2**20


class ArrayReader(Protocol):
    """Arrays under our names, in our layout."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Path and shape of every array."""

    def dtype(self, path: str) -> np.dtype:
        """The stored dtype of an array."""

    def read(self, path: str, region: Region | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """One region of one array, in `dtype` or as stored."""

    def boxes(self, path: str) -> Iterator[Region]:
        """Regions that are cheap to read one after the other and together make the array."""


@dataclasses.dataclass(frozen=True)
class PublishedArrays:
    """A published checkpoint seen through its plan."""

    source: HuggingFaceSource
    plan: Plan

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Path and shape of every array."""
        return self.plan.shapes

    def dtype(self, path: str) -> np.dtype:
        """The dtype that all of an array's tensors are stored as; float32 for computed constants.

        Raises:
          WeightsError: if they differ.
        """
        dtypes: dict[np.dtype, str] = {}
        for piece in self.plan.pieces.get(path, ()):
            dtypes.setdefault(self.source.tensors[piece.source].dtype, piece.source)
        if len(dtypes) > 1:
            found = ", ".join(f"{dtype} ('{name}')" for dtype, name in dtypes.items())
            raise WeightsError(f"{self.source.path}: the layers of '{path}': expected one dtype, found "
                               f"{found}; name the dtype that you want.")
        return next(iter(dtypes), np.dtype(np.float32))

    def read(self, path: str, region: Region | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """One region of one array; of the published tensors only the regions needed are read."""
        shape = self.plan.shapes[path]
        dtype = self.dtype(path) if dtype is None else dtype
        box = tuple(slice(*bound) for bound in region_bounds(shape, region))
        result = np.empty([part.stop - part.start for part in box], dtype)
        if path in self.plan.computed:
            result[...] = cast(self.plan.computed[path](shape)[box], dtype)
            return result
        pieces = self.plan.pieces[path]
        if pieces and pieces[0].layer is None:
            values = self.source.read(pieces[0].source, pieces[0].source_region(box))
            _assign(result, pieces[0].to_target(values))
            return result

        def fill(layer: int) -> None:
            piece = pieces[layer]
            values = self.source.read(piece.source, piece.source_region(box[1:]))
            _assign(result[layer - box[0].start, ...], piece.to_target(values))

        with concurrent.futures.ThreadPoolExecutor(_CONCURRENT_LAYERS) as pool:
            list(pool.map(fill, range(box[0].start, box[0].stop)))
        return result

    def boxes(self, path: str) -> Iterator[Region]:
        """One layer after the other; an array that is not stacked comes whole."""
        pieces = self.plan.pieces.get(path, ())
        return layer_boxes(self.plan.shapes[path], stacked=bool(pieces) and pieces[0].layer is not None)


@dataclasses.dataclass(frozen=True)
class ConvertedArrays:
    """Converted weights."""

    source: ConvertedSource
    shapes: Mapping[str, tuple[int, ...]]

    def dtype(self, path: str) -> np.dtype:
        """The stored dtype of an array."""
        return self.source.dtype(path)

    def read(self, path: str, region: Region | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """One region of one array."""
        values = self.source.read(path, region)
        return values if dtype is None else cast(values, dtype)

    def boxes(self, path: str) -> Iterator[Region]:
        """One layer after the other; an array that is not stacked comes whole."""
        return layer_boxes(self.shapes[path], stacked=".layers." in path)


def layer_boxes(shape: Sequence[int], stacked: bool) -> Iterator[Region]:
    """One region per index of the leading axis, or one for everything."""
    if not stacked:
        yield tuple(slice(0, size) for size in shape)
        return
    for layer in range(shape[0]):
        yield (slice(layer, layer + 1), *(slice(0, size) for size in shape[1:]))


def open_published(
    path: epath.PathLike, kind: ModelKind, wanted: Mapping[str, bool]
) -> tuple[Any, PublishedArrays, dict[str, bool]]:
    """Opens a published checkpoint and pairs all its tensors with the model that its configuration describes.

    Args:
      path: directory, or a safetensors file in it.
      kind: of the model.
      wanted: per optional part whether the model is to have it.

    Returns:
      The configuration, the arrays, and the parts that the model really has.

    Raises:
      WeightsError: listing everything that does not fit.
      ConfigError: if the configuration is unusable.
    """
    source = HuggingFaceSource(path)
    config = kind.read_config(source.directory)
    shapes = kind.shapes(config, wanted)
    parts = _present_parts(kind, wanted, shapes)
    omitted = {
        name: f"the model is built without its {kind.parts[part].title}"
        for name in source.tensors if (part := kind.part_of(name)) is not None and not wanted[part]
    }
    tensors = {name: tensor for name, tensor in source.tensors.items() if name not in omitted}
    plan = make_plan(kind.table, tensors, shapes, str(source.path))
    return (
        config,
        PublishedArrays(source, dataclasses.replace(plan, ignored={**plan.ignored, **omitted})),
        parts,
    )


def open_converted(
    path: epath.PathLike, kind: ModelKind, wanted: Mapping[str, bool]
) -> tuple[Any, ConvertedArrays]:
    """Opens converted weights and compares every array with the model.

    Raises:
      WeightsError: listing every array that is missing, extra or wrongly shaped.
      ConfigError: if the configuration is unusable.
    """
    source = ConvertedSource(path, kind.name)
    config = kind.read_config(source.directory)
    shapes = kind.shapes(config, wanted)
    found = source.shapes
    problems = []
    for name, shape in shapes.items():
        if name not in found:
            absent = [
                title.title for part, title in kind.parts.items() if not source.manifest.parts.get(part, True)
            ]
            advice = f"; it was converted without its {' and '.join(absent)}" if absent else "; convert again"
            problems.append(f"array '{name}' is missing: expected shape {shape}{advice}")
        elif found[name] != shape:
            problems.append(f"array '{name}': expected shape {shape}, found {found[name]}; the JSON files "
                            "beside it were changed, or describe another model")
    everything = kind.shapes(config, dict.fromkeys(kind.parts, True))
    problems += [f"array '{name}' {shape} is extra: expected no such array in this model; convert again"
                 for name, shape in found.items() if name not in everything]
    raise_together(f"{source.directory / MANIFEST}: does not fit the model", problems)
    return config, ConvertedArrays(source, {name: found[name] for name in shapes})


def open_arrays(path: epath.PathLike, kind: ModelKind, wanted: Mapping[str, bool]) -> tuple[Any, ArrayReader]:
    """Opens a published checkpoint or converted weights, whichever a path holds: configuration and arrays."""
    if is_converted(path):
        return open_converted(path, kind, wanted)
    config, arrays, _ = open_published(path, kind, wanted)
    return config, arrays


def for_each_block(
    values: np.ndarray, dtype: np.dtype, consume: Callable[[tuple[int, int], np.ndarray], None]
) -> None:
    """Hands a (permuted) view over as contiguous blocks of rows in another dtype, some 64 MiB at a time.

    Args:
      values: any view.
      dtype: of the blocks.
      consume: called with the first and last (exclusive) row, and the block.
    """
    if values.ndim == 0 or not values.size:
        consume(
            (0, len(values) if values.ndim else 1),
            np.ascontiguousarray(cast(values, dtype)).reshape(values.shape),
        )
        return
    rows = max(1, _BLOCK_BYTES // max(1, values[:1].size * dtype.itemsize))
    for first in range(0, len(values), rows):
        # Contiguous first: numpy casts a transposed view far more slowly than it copies it.
        consume(
            (first, min(len(values), first + rows)),
            cast(np.ascontiguousarray(values[first : first + rows]), dtype),
        )


def _assign(target: np.ndarray, values: np.ndarray) -> None:
    """Copies a (permuted) view into an array of another dtype, block by block."""

    def consume(rows: tuple[int, int], block: np.ndarray) -> None:
        target[slice(*rows) if block.ndim else ...] = block

    for_each_block(values, target.dtype, consume)


def _present_parts(
    kind: ModelKind, wanted: Mapping[str, bool], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, bool]:
    roots = {path.split(".")[0] for path in shapes}
    return {part: wanted[part] and part in roots for part in kind.parts}
