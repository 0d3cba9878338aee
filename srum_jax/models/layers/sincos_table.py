"""Fixed two-dimensional sine/cosine position tables."""

import numpy as np


def sincos_table(dim: int, side: int) -> np.ndarray:
    """A table with one row for each cell of a square grid, row index `row * side + column`.

    The first half of a row encodes the column and the second half the row, each as sines followed by cosines of
    `coordinate * 10000^(-k / (dim / 4))`. Computed in float64, as the reference does.

    Args:
      dim: width of the table, a multiple of 4.
      side: cells along each side of the grid.

    Returns:
      float32 [side * side, dim].
    """
    if dim % 4:
        raise ValueError(f"dim: expected a multiple of 4, found {dim}.")
    frequency = 10000.0 ** (-np.arange(dim // 4, dtype=np.float64) / (dim / 4))
    row, column = np.meshgrid(np.arange(side, dtype=np.float64), np.arange(side, dtype=np.float64), indexing="ij")
    angles = [coordinate.reshape(-1, 1) * frequency for coordinate in (column, row)]
    return np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)
