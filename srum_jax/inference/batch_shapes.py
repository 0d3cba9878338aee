"""Shapes of batches: few enough that programs are reused, close enough that little is wasted."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_SMALLEST = 16


def bucket(count: int, per_octave: int = 4) -> int:
    """The smallest width of a chunk that is at least `count`; 0 for 0.

    Widths are 16 and, between one power of two and the next, `per_octave` evenly spaced ones: at most 1 / `per_octave`
    of a width is padding.
    """
    if count <= 0:
        return 0
    if count <= _SMALLEST:
        return _SMALLEST
    step = max(1, 2 ** ((count - 1).bit_length() - 1) // per_octave)
    return -(-count // step) * step


def same_size(sizes: Sequence[Hashable | None]) -> list[list[int]]:
    """Row numbers by size of their images, in order of first appearance; rows of None are in no group.

    An autoencoder sees no padding, so each size is its own batch.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, size in enumerate(sizes):
        if size is not None:
            groups.setdefault(size, []).append(row)
    return list(groups.values())


def fill_rows(rows: Sequence[int], multiple: int) -> list[int]:
    """The rows, and their first one again until there are `multiple` times a power of two."""
    count = multiple
    while count < len(rows):
        count *= 2
    return [*rows, *[rows[0]] * (count - len(rows))]


def filled(items: Sequence[Item], multiple: int) -> tuple[list[Item], np.ndarray]:
    """What is asked, filled up to a batch with the first of it, and bool [B]: which rows were asked for."""
    rows = len(items) if len(items) % multiple == 0 else len(fill_rows(range(len(items)), multiple))
    return [*items, *[items[0]] * (rows - len(items))], np.arange(rows) < len(items)
