"""From directories of records to batches on the host: a pure function of (seed, row), prefetched by Grain.

Row r of the endless stream holds the samples at positions r * k .. r * k + k - 1 (k samples in a row). Which record
stands at position q is a function of (seed, q) (`mixture.py`), and all that is random about the sample comes from a
Philox generator keyed by (seed, q). Rows therefore depend neither on the number of processes or workers nor on what was
read before, and the whole state of the stream is the number of the next row.
"""

import dataclasses
import os
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from srum_jax.data.config import DataConfig
from srum_jax.data.errors import BadRecord, DataError, SchemaError
from srum_jax.data.example import Batch, Packer, stack_rows
from srum_jax.data.example_proto import decode_record
from srum_jax.data.mixture import RecordMixture
from srum_jax.data.record_reader import RECORD_ERRORS, example_of, picture_of
from srum_jax.data.records_source import RecordsSource
from srum_jax.errors import check
from srum_jax.objectives.objective import RecordObjective

_ENDLESS = 1 << 48  # rows; Grain wants a length
_MAX_SEED = 1 << 64
_RECORDS_TRIED = 16  # of a set, to find one that can be read


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HostBatch:
    """The rows of one process, in host memory."""

    batch: Batch  # NumPy arrays [local rows, ...]
    record_ids: tuple[tuple[str, ...], ...] = dataclasses.field(metadata={"static": True})  # row, place; "" for empty
    bad_records: tuple[BadRecord, ...] = dataclasses.field(default=(), metadata={"static": True})


class RowSource:
    """Rows of the endless stream by number. Can be sent to another process."""

    def __init__(self, data: DataConfig, packer: Packer, objective: RecordObjective, seed: int):
        check("seed", 0 <= seed < _MAX_SEED, "a 64-bit number that is not negative", seed)
        check("data.records", bool(data.records), "a directory of reward records", data.records)
        self.data, self.packer, self.objective, self.seed = data, packer, objective, seed
        self.records = RecordMixture(data.records, seed, data.shuffle)
        for source in self.records.sources:
            _check_set(source, packer)

    def row(self, number: int) -> HostBatch:
        """One row; its arrays have no batch axis. Records that cannot be used leave their place empty."""
        row, slots = self.packer.empty_row(), self.packer.samples_per_row
        ids, bad = [], []
        for position in range(number * slots, (number + 1) * slots):
            draws = np.random.Generator(np.random.Philox(key=np.array([self.seed, position], np.uint64)))
            place = self.records.order.at(position)
            source, record = self.records.sources[place.number], place.record
            try:
                stored = decode_record(source.read(record))
                with_prompt = draws.random() >= self.data.text_dropout
                row.add(example_of(stored, self.objective, with_prompt=with_prompt), draws)
            except (DataError, *RECORD_ERRORS) as error:
                reason = error.reason if isinstance(error, DataError) else str(error)
                bad.append(BadRecord(source.file_of(record), source.locate(record).record_number, reason))
                ids.append("")
                continue
            ids.append(stored.record_id)
        return HostBatch(row.finish(), (tuple(ids),), tuple(bad))


def _check_set(source: RecordsSource, packer: Packer) -> None:
    """Looks at the first record of a set that can be read: what a whole set lacks is noticed before training.

    Raises:
      DataError: its stored codes are not those of this run.
    """
    for place in range(min(len(source), _RECORDS_TRIED)):
        try:
            record = decode_record(source.read(place))
        except (DataError, SchemaError):
            continue  # told when it is its turn, or counted (data.on_bad_record)
        try:
            packer.check(picture_of(record))
        except SchemaError as error:
            raise DataError(os.fspath(source.file_of(place)), source.locate(place).record_number,
                            str(error)) from error
        return


@dataclasses.dataclass(frozen=True)
class _LocalRows:
    """Rows of one process in the order of its batches; what Grain reads."""

    rows: RowSource
    first_row: int  # of the first batch
    first_local_row: int  # of this process in each batch
    num_local_rows: int

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> HostBatch:
        step, local_row = divmod(index, self.num_local_rows)
        start = self.first_row + step * self.rows.data.rows_per_batch + self.first_local_row
        return self.rows.row(start + local_row)


class HostBatchIterator(grain.DatasetIterator[HostBatch]):
    """Endless batches of one process. Its state is the next row, whatever the number of processes and workers.

    Call `close` when done with it: worker processes and prefetching threads end then. With `data.num_workers` the
    calling program must be importable without side effects (`if __name__ == "__main__"`), because worker processes are
    spawned.

    Args:
      data: what is read.
      packer: makes the rows.
      objective: computes the columns beside the tokens.
      seed: of the order of records and of their random draws.
      process_index: of this process.
      process_count: processes that each hold a part of the rows of a batch.

    Raises:
      DataError: the records are absent, incomplete or truncated, or their stored codes are not those of this run.
      ValueError: a setting is out of range.
    """

    def __init__(
        self, data: DataConfig, packer: Packer, objective: RecordObjective, *, seed: int, process_index: int = 0,
        process_count: int = 1,
    ):
        super().__init__()
        self._prefetched = None  # first: it is closed too when something below fails
        rows = RowSource(data, packer, objective, seed)
        total = rows.data.rows_per_batch
        check("process_index", 0 <= process_index < process_count, f"a number below {process_count}", process_index)
        check("data.rows_per_batch", total % process_count == 0, f"a multiple of the {process_count} processes", total)
        self._rows = rows
        self._num_local_rows = total // process_count
        self._first_local_row = process_index * self._num_local_rows
        self._next_row = 0

    def _start(self) -> None:
        data = self._rows.data
        # Whole rows are prepared in parallel and joined here, so workers cannot change what a batch holds.
        source = _LocalRows(self._rows, self._next_row, self._first_local_row, self._num_local_rows)
        buffered = -(-data.prefetch * self._num_local_rows // max(data.num_workers, 1))  # rows, of each worker
        dataset = grain.MapDataset.source(source).to_iter_dataset(
            grain.ReadOptions(num_threads=min(data.num_threads, buffered), prefetch_buffer_size=buffered))
        if data.num_workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # Grain's workers ask for absl flags, and programs here use argparse
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=data.num_workers, per_worker_buffer_size=buffered))
        self._prefetched = iter(dataset)

    def __next__(self) -> HostBatch:
        """The next batch.

        Raises:
          DataError: a record cannot be used, and `data.on_bad_record` is "stop". The state stays before this batch.
        """
        if self._closed:
            raise ValueError("the iterator is closed.")
        if self._prefetched is None:
            self._start()
        batch = _join_rows([next(self._prefetched) for _ in range(self._num_local_rows)])
        if batch.bad_records and self._rows.data.on_bad_record == "stop":
            self._stop()
            first, others = batch.bad_records[0], len(batch.bad_records) - 1
            more = f" ({others} more in the same batch)" if others else ""
            raise DataError(first.file, first.record_number,
                            f"{first.reason}{more}; data.on_bad_record=skip counts such records and goes on")
        self._next_row += self._rows.data.rows_per_batch
        return batch

    def get_state(self) -> dict[str, Any]:
        """A small dict of numbers and text, fit for JSON."""
        return {
            "next_row": self._next_row,
            "samples_per_row": self._rows.packer.samples_per_row,
            "seed": self._rows.seed,
            "shuffle": self._rows.data.shuffle,
            "records": self._rows.records.fingerprint,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues exactly where `get_state` was taken, also with another number of processes, workers or rows.

        Raises:
          DataError: the state belongs to other records, another seed or another number of samples in a row.
        """
        own = self.get_state()
        wrong = [f"{name}: the checkpoint has {state.get(name)!r}, this run {own[name]!r}"
                 for name in own if name != "next_row" and state.get(name) != own[name]]
        if wrong or not isinstance(state.get("next_row"), int) or state["next_row"] < 0:
            wrong = wrong or [f"next_row: expected a number, found {state.get('next_row')!r}"]
            raise DataError(self._rows.records.names, None,
                            "the saved place in the data does not belong to this run: " + "; ".join(wrong))
        self._stop()
        self._next_row = state["next_row"]

    def start_prefetch(self) -> None:
        """Starts to prepare batches in the background."""
        if self._prefetched is None and not self._closed:
            self._start()
            self._prefetched.start_prefetch()

    def _stop(self) -> None:
        if self._prefetched is not None:
            self._prefetched.close()
            self._prefetched = None

    def close(self) -> None:
        """Ends workers and threads."""
        self._stop()
        super().close()


def _join_rows(rows: list[HostBatch]) -> HostBatch:
    return HostBatch(
        batch=stack_rows([row.batch for row in rows]),
        record_ids=tuple(row.record_ids[0] for row in rows),
        bad_records=tuple(bad for row in rows for bad in row.bad_records),
    )
