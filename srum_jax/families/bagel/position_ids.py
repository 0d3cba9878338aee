"""Which row of a square position table each token of an image uses.

The same rule serves ViT patches (table of 70 x 70) and latent tokens (64 x 64).
"""

import math

import numpy as np


def position_ids(rows: int, columns: int, side: int, interpolate: bool = False) -> np.ndarray:
    """Int32 [rows * columns], row-major.

    Args:
      rows: tokens of the image along its height.
      columns: likewise along its width.
      side: rows and columns of the table.
      interpolate: spread the image over the whole table instead of using its top left corner.

    Raises:
      ValueError: the image is larger than the table, and `interpolate` is off.
    """
    if interpolate:
        row_ids, column_ids = _buckets(rows, side), _buckets(columns, side)
    else:
        if max(rows, columns) > side:
            raise ValueError(f"an image of {rows} x {columns} tokens is larger than the position table of "
                             f"{side} x {side}")
        row_ids, column_ids = np.arange(rows), np.arange(columns)
    return (row_ids[:, None] * side + column_ids[None, :]).reshape(-1).astype(np.int32)


def _buckets(count: int, side: int) -> np.ndarray:
    """Bucket of each fraction k / count among the boundaries 1 / side, 2 / side, ...; a tie goes up."""
    # Both lists are multiples of a step, rounded to float32 as the reference does: exact quotients would put some
    # fractions into the neighbouring bucket.
    step = 1.0 / side
    boundaries = (step + np.arange(math.ceil((1.0 - step) / step)) * step).astype(np.float32)
    fractions = (np.arange(count) * (1.0 / count)).astype(np.float32)
    return np.searchsorted(boundaries, fractions, side="right")
