"""Records on their way from one set to another: read, decoded, encoded in batches, written."""

import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from srum_jax.data.errors import CapacityError, DataError, ImageError, SchemaError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.record_reader import picture_of
from srum_jax.data.records_source import RecordsSource
from srum_jax.data.stored_code import StoredCode
from srum_jax.stages.processes import Processes
from tools.precompute_latents.encoder import Encoder
from tools.precompute_latents.target import Placed, Target

_Item = TypeVar("_Item")


def rewrite(
    source: RecordsSource,
    target: Target,
    encoder: Encoder,
    *,
    num_threads: int,
    processes: Processes,
) -> list[int]:
    """Writes the shards of a set that the target does not have yet; codes that records have are replaced.

    Args:
      source: the set.
      target: where to write.
      encoder: computes the codes.
      num_threads: that decode and resize images.
      processes: which one this is of how many, each with its own shards.

    Returns:
      The shards that other processes have still to write; if there are none, the manifest is there.

    Raises:
      DataError: a record cannot be used.
      WriteError, OSError: a file cannot be written or read.
    """
    own = range(processes.index, len(source.shards), processes.count)
    missing = target.missing(own)
    total, left = (sum(len(source.shards[number]) for number in numbers) for numbers in (own, missing))
    with tqdm(total=total, initial=total - left, unit="record", disable=None) as bar:
        records = _counted(_with_codes(_records_of(source, missing), encoder, num_threads), bar)
        for number in missing:
            target.write(number, records)
    of_others = target.missing(range(len(source.shards)))
    if not of_others:
        target.finish()
    return of_others


def _records_of(source: RecordsSource, shards: Sequence[int]) -> Iterator[Placed]:
    """The records of some shards, one shard after the other.

    Raises:
      DataError: a record is damaged.
    """
    for shard in map(source.shards.__getitem__, shards):
        for number in range(len(shard)):
            try:
                record = decode_record(shard[number])
            except SchemaError as error:
                raise DataError(os.fspath(shard.name), number, str(error)) from error
            yield Placed(record, shard.name, number)
        shard.close()  # a set has any number of them, a process so many open files


def _counted(records: Iterator[Placed], bar: tqdm) -> Iterator[Placed]:
    for placed in records:
        bar.update()
        yield placed


def _with_codes(records: Iterator[Placed], encoder: Encoder, num_threads: int) -> Iterator[Placed]:
    """Each record with its code; those before a bad one too, because they may complete a shard."""

    def pixels(placed: Placed) -> np.ndarray:
        try:
            return encoder.coding.pixels(picture_of(placed.record).image())
        except (SchemaError, ImageError, CapacityError) as error:
            raise placed.error(error) from error

    waiting: tuple[list[Placed], Callable[[], list[StoredCode]]] | None = None
    failure: DataError | None = None
    with concurrent.futures.ThreadPoolExecutor(num_threads) as threads:
        while failure is None:
            batch, unread = _before_failure(itertools.islice(records, encoder.batch_size))
            images, unusable = _before_failure(threads.map(pixels, batch))
            failure = unusable or unread
            if not images:
                break
            before, waiting = waiting, (batch[: len(images)], encoder.start(images))
            if before is not None:  # while the devices work on this batch, the one before is written
                yield from _finished(*before)
    if waiting is not None:
        yield from _finished(*waiting)
    if failure is not None:
        raise failure


def _before_failure(items: Iterator[_Item]) -> tuple[list[_Item], DataError | None]:
    done = []
    try:
        for item in items:
            done.append(item)
    except DataError as error:
        return done, error
    return done, None


def _finished(batch: Sequence[Placed], codes: Callable[[], list[StoredCode]]) -> Iterator[Placed]:
    for placed, code in zip(batch, codes(), strict=True):
        yield dataclasses.replace(placed, record=dataclasses.replace(placed.record, code=code))
