"""Several record sets as one endless stream of samples, each with its share.

Which record is the sample at a position is computed from (seed, position) alone: nothing is counted while reading, so
any process can ask for any position, and the number of processes changes nothing.

    position -> set i and k, the number of samples of this set before it      (weights)
             -> epoch k div N_i and place k mod N_i                           (N_i records in the set)
             -> record shuffled_index(place, N_i, seed_i, epoch)

Every set has epochs of its own, each in a new order, and no record comes twice within one of them.
"""

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from etils import epath

from srum_jax.data.errors import DataError
from srum_jax.data.records_source import RecordsSource
from srum_jax.data.shuffle import mix, shuffled_index


class Turn(NamedTuple):
    """One place of an interleaved order."""

    number: int  # of the set
    before: int  # how many places the set had before this one


class Interleaving:
    """Spreads sets over positions evenly, each by its weight.

    The sets are halved like the leaves of a binary tree. Of the first q positions that reach a node, the part
    round(q * left weight / weight) goes left: exact in the long run, and never wrong by more than a half. Of n sets,
    each one's number of places among any first q positions is therefore within ceil(log2 n) / 2 of its share of q, and
    in any window within ceil(log2 n). All arithmetic is on whole numbers.

    Args:
      weights: positive and finite, of any sum; a float counts as the decimal fraction that it prints as.
    """

    def __init__(self, weights: Sequence[float]):
        exact = [Fraction(str(weight)) for weight in weights]
        self.shares = tuple(weight / sum(exact) for weight in exact)
        scale = math.lcm(*(share.denominator for share in self.shares))
        self._tree = _tree([int(share * scale) for share in self.shares], 0)

    def at(self, position: int) -> Turn:
        """The set that has a position, 0 or above, and how often it had one before."""
        node = self._tree
        while isinstance(node, _Node):
            before, after = node.num_left(position), node.num_left(position + 1)
            node, position = (node.left, before) if after > before else (node.right, position - before)
        return Turn(node, position)


class _Node(NamedTuple):
    left: "_Node | int"
    right: "_Node | int"
    left_weight: int
    weight: int

    def num_left(self, position: int) -> int:
        """How many of the first positions go left."""
        return (2 * position * self.left_weight + self.weight) // (2 * self.weight)


def _tree(weights: list[int], first: int) -> _Node | int:
    if len(weights) == 1:
        return first
    half = len(weights) // 2
    return _Node(_tree(weights[:half], first), _tree(weights[half:], first + half), sum(weights[:half]), sum(weights))


class Place(NamedTuple):
    """Which record stands at a position of the stream."""

    number: int  # of the set
    epoch: int  # pass over this set
    record: int  # place in the set


class SampleOrder:
    """The endless order of samples of some sets.

    Args:
      sizes: records in each set.
      weights: of each set; see Interleaving.
      seed: of the shuffling.
      shuffle: False keeps the order in which records were written, in every epoch.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int, shuffle: bool):
        self.sizes, self.shuffle = tuple(sizes), shuffle
        self.interleaving = Interleaving(weights)
        # The first keeps the seed: one set alone has the same order in a mixture and without. The others must not
        # follow it, or sets of equal sizes would be shuffled alike.
        self._seeds = [seed if number == 0 else mix(mix(seed) + number) for number in range(len(self.sizes))]

    def at(self, position: int) -> Place:
        """The record at a position, 0 or above."""
        number, before = self.interleaving.at(position)
        size = self.sizes[number]
        epoch, place = divmod(before, size)
        record = shuffled_index(place, size, self._seeds[number], epoch) if self.shuffle else place
        return Place(number, epoch, record)


class RecordMixture:
    """The records of some directories as one stream. Can be sent to another process.

    Args:
      sets: directories of records, and their weights: shares of the samples, whatever the sizes of the sets.
      seed: of the shuffling.
      shuffle: see SampleOrder.

    Raises:
      DataError: a set is absent, damaged, of another schema version, or there twice.
    """

    def __init__(self, sets: Sequence[tuple[epath.PathLike, float]], seed: int, shuffle: bool):
        self.sources = tuple(RecordsSource(path) for path, _ in sets)
        seen: dict[str, RecordsSource] = {}
        for source in self.sources:
            if source.fingerprint in seen:
                raise DataError(os.fspath(source.directory), None,
                                f"holds the same records as {seen[source.fingerprint].directory}; they would come "
                                "twice in an epoch. Name the set once, with the sum of the weights (data.records)")
            seen[source.fingerprint] = source
        self.order = SampleOrder([len(source) for source in self.sources], [weight for _, weight in sets], seed,
                                 shuffle)

    @property
    def fingerprint(self) -> Any:
        """Changes with any byte of any record, with the sets, their order and their shares; fit for JSON."""
        if len(self.sources) == 1:
            return self.sources[0].fingerprint
        shares = self.order.interleaving.shares
        return [[source.fingerprint, str(share)] for source, share in zip(self.sources, shares, strict=True)]

    @property
    def names(self) -> str:
        """The directories, for messages."""
        return ", ".join(os.fspath(source.directory) for source in self.sources)
