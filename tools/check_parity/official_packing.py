"""The reference's packing of samples by token count, for comparison with its runs.

Training here uses rows of a fixed number of samples instead (`packing.py`). The reference fills a pack from a stream
and a first-in first-out buffer, and loses samples in doing so: see `official_packs`.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class OfficialPackingConfig:
    """The reference's defaults, in tokens; its SRUM scripts use 8192, 8192, 9216."""

    expected_num_tokens: int = 32768  # a pack is emitted once it holds as many
    max_num_tokens_per_sample: int = 16384  # longer samples are skipped
    max_num_tokens: int = 36864  # a pack never holds more
    prefer_buffer_before: int = 16384  # shorter packs take from the buffer first
    max_buffer_size: int = 50  # samples


class SampleSize(NamedTuple):
    """Tokens of one sample."""

    need: int  # raw tokens plus two markers for each item, whether dropped or not
    length: int  # what it really adds; less where items are dropped


@dataclasses.dataclass(frozen=True)
class Pack:
    """One pack: samples by their number in the stream."""

    samples: tuple[int, ...]
    lengths: tuple[int, ...]
    padding: int  # tokens up to max_num_tokens

    @property
    def total(self) -> int:
        """Tokens that are not padding."""
        return sum(self.lengths)


def official_packs(sizes: Iterable[SampleSize], config: OfficialPackingConfig) -> Iterator[Pack]:
    """Packs a stream. A pack that is unfinished when the stream ends is not emitted.

    A sample that does not fit is lost when it came from the buffer or finds the buffer full.
    """
    stream = iter(enumerate(sizes))
    buffer: collections.deque[tuple[int, SampleSize]] = collections.deque()
    samples: list[int] = []
    lengths: list[int] = []
    while True:
        from_buffer = bool(buffer) and sum(lengths) < config.prefer_buffer_before
        entry = buffer.popleft() if from_buffer else next(stream, None)
        if entry is None:
            return
        number, size = entry
        if size.need > config.max_num_tokens_per_sample:
            continue
        full = sum(lengths) + size.need > config.max_num_tokens
        if full and len(buffer) < config.max_buffer_size and not from_buffer:
            buffer.append(entry)
            continue
        if not full:
            samples.append(number)
            lengths.append(size.length)
        if full or sum(lengths) >= config.expected_num_tokens:
            yield Pack(tuple(samples), tuple(lengths), config.max_num_tokens - sum(lengths))
            samples, lengths = [], []
