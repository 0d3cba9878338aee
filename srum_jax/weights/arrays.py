"""The arrays of a model, read region by region from whatever holds them."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from srum_jax.weights.dtypes import cast
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.published import PublishedSource
from srum_jax.weights.safetensors_read import Region, layer_boxes, region_bounds
from srum_jax.weights.table import Plan

# Layers of a stacked array that are read at the same time; hides the latency of remote storage.
_CONCURRENT_LAYERS = 4
# What a conversion holds beside the tensor that it works on.
_BLOCK_BYTES = 64 * 2**20


class ArrayReader(Protocol):
    """Arrays under our names, in our layout."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Path and shape of every parameter."""

    def read(self, parameter: str, region: Region | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """One region of one array, in `dtype` or as stored."""

    def boxes(self, parameter: str) -> Iterator[Region]:
        """Regions that are cheap to read one after the other and together make the array."""


@dataclasses.dataclass(frozen=True)
class PublishedArrays:
    """A published checkpoint seen through its plan."""

    source: PublishedSource
    plan: Plan

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Path and shape of every parameter."""
        return self.plan.shapes

    def dtype(self, parameter: str) -> np.dtype:
        """The dtype that all of an array's tensors are stored as; float32 for computed constants.

        Raises:
          WeightsError: if they differ.
        """
        dtypes: dict[np.dtype, str] = {}
        for piece in self.plan.pieces.get(parameter, ()):
            dtypes.setdefault(self.source.tensors[piece.source].dtype, piece.source)
        if len(dtypes) > 1:
            found = ", ".join(f"{dtype} ('{name}')" for dtype, name in dtypes.items())
            raise WeightsError(f"{self.source.directory}: the layers of '{parameter}': expected one dtype, found "
                               f"{found}; name the dtype that you want.")
        return next(iter(dtypes), np.dtype(np.float32))

    def read(self, parameter: str, region: Region | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """One region of one array; of the published tensors only the regions needed are read."""
        shape = self.plan.shapes[parameter]
        dtype = self.dtype(parameter) if dtype is None else dtype
        box = tuple(slice(*bound) for bound in region_bounds(shape, region))
        result = np.empty([part.stop - part.start for part in box], dtype)
        if parameter in self.plan.computed:
            result[...] = cast(self.plan.computed[parameter](shape)[box], dtype)
            return result
        pieces = self.plan.pieces[parameter]
        if not self.plan.table.is_stacked(parameter):
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

    def boxes(self, parameter: str) -> Iterator[Region]:
        """One layer after the other; an array that is not stacked comes whole."""
        return layer_boxes(self.plan.shapes[parameter], stacked=self.plan.table.is_stacked(parameter))


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
