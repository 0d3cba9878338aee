"""Masks as COCO stores them uncompressed: lengths of runs down the columns, beginning with pixels outside the mask.

    {"size": [height, width], "counts": [outside, inside, outside, ...]}
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths of a mask, bool [H, W]; the first is 0 where the top left pixel lies inside."""
    values = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(values, prepend=False))
    counts = np.diff(changes, prepend=0, append=values.size)
    return {"size": list(mask.shape), "counts": counts.tolist()}


def decode_mask(rle: Mapping[str, Any]) -> np.ndarray:
    """The mask, bool [H, W].

    Raises:
      ValueError: the runs do not fill the size, or are no whole numbers from 0 on.
    """
    height, width = rle["size"]
    counts = np.asarray(rle["counts"])
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError(f"counts: expected whole numbers from 0 on, found {rle['counts']!r}.")
    if counts.sum() != height * width:
        raise ValueError(f"counts: expected {height * width} pixels in all ({height} x {width}), found {counts.sum()}.")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T
