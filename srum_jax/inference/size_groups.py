"""Rows of a batch whose images have one size: the autoencoder sees no padding, so each size is its own batch."""

from collections.abc import Hashable, Sequence


def same_size(sizes: Sequence[Hashable | None]) -> list[list[int]]:
    """Row numbers by size, in order of first appearance; rows of None are in no group."""
    groups: dict[Hashable, list[int]] = {}
    for row, size in enumerate(sizes):
        if size is not None:
            groups.setdefault(size, []).append(row)
    return list(groups.values())


def fill_rows(rows: Sequence[int], multiple: int) -> list[int]:
    """The rows, and their first one again until there are `multiple` times a power of two: few shapes, few programs."""
    count = multiple
    while count < len(rows):
        count *= 2
    return [*rows, *[rows[0]] * (count - len(rows))]
