"""Low-rank factors of a training run (LoRA), and the weights that they make together with their base."""

from collections.abc import Iterator, Mapping

import numpy as np

from srum_jax.models.key_table import Table
from srum_jax.models.layers.low_rank import FACTOR_A, FACTOR_B
from srum_jax.weights.arrays import ArrayReader
from srum_jax.weights.dtypes import cast
from srum_jax.weights.safetensors_read import Region, layer_boxes, region_bounds


def factored_maps(arrays: ArrayReader) -> list[str]:
    """Paths of the linear maps that have factors; none where whole weights were trained."""
    suffix = f".{FACTOR_A}"
    return [path.removesuffix(suffix) for path in arrays.shapes if path.endswith(suffix)]


class MergedArrays:
    """Kernels `W + scale * A B`, formed in float32, one layer at a time."""

    def __init__(self, base: ArrayReader, factors: ArrayReader, scale: float, table: Table):
        """Combines two readers; nothing is read yet.

        Args:
          base: the weights that training started from.
          factors: `lora_a` [(L,) in, r] and `lora_b` [(L,) r, out] of some maps.
          scale: alpha / rank.
          table: of the architecture; says which kernels are stacked.
        """
        self._base, self._factors, self._scale, self._table = base, factors, np.float32(scale), table

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Path and shape of every kernel that has factors."""
        found = self._factors.shapes
        return {f"{name}.kernel": (*found[f"{name}.{FACTOR_A}"][:-1], found[f"{name}.{FACTOR_B}"][-1])
                for name in factored_maps(self._factors)}

    def read(self, parameter: str, region: Region | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """One region of one kernel."""
        name = parameter.removesuffix(".kernel")
        *stack, rows, columns = (slice(*bound) for bound in region_bounds(self.shapes[parameter], region))
        every = slice(0, self._factors.shapes[f"{name}.{FACTOR_A}"][-1])
        a = self._factors.read(f"{name}.{FACTOR_A}", (*stack, rows, every), np.float32)
        b = self._factors.read(f"{name}.{FACTOR_B}", (*stack, every, columns), np.float32)
        merged = np.matmul(self._scale * a, b)
        merged += self._base.read(parameter, (*stack, rows, columns), np.float32)
        return merged if dtype is None else cast(merged, dtype)

    def boxes(self, parameter: str) -> Iterator[Region]:
        """One layer after the other; a kernel that is not stacked comes whole."""
        return layer_boxes(self.shapes[parameter], stacked=self._table.is_stacked(parameter))
