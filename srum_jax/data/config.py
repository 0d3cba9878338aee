"""What is read, and how. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
import math
import numbers
import os
from typing import Any, ClassVar, Protocol

from srum_jax.errors import check

RecordSet = tuple[str, float]  # a directory of reward records, and its weight among several


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which records are read, in which order, and how much is prepared at once."""

    # Directories of reward records with weights: their shares of the samples. The name of one directory is one set.
    records: tuple[RecordSet, ...] | str = ()
    rows_per_batch: int = 8  # of the whole job, over all processes
    text_dropout: float = 0.1  # probability of training without the prompt
    shuffle: bool = True
    on_bad_record: str = "stop"  # "skip" leaves its place empty, and the batch says so
    num_workers: int = 0  # processes that prepare batches; 0: threads of this one
    num_threads: int = 4  # threads of each of these processes
    prefetch: int = 2  # batches kept ready

    def __post_init__(self):
        if isinstance(self.records, str):
            check("data.records", not self.records.startswith("["),
                  'a directory, or a list of pairs like [["DIR", 3], ["DIR", 1]]', self.records)
            object.__setattr__(self, "records", ((self.records, 1.0),) if self.records else ())
        for entry in self.records:
            check("data.records", _is_weighted_set(entry),
                  "directories, each with a weight that is positive and finite", entry)
        object.__setattr__(self, "records", tuple((os.path.expanduser(path), share) for path, share in self.records))
        for field in ("rows_per_batch", "num_threads", "prefetch"):
            check(f"data.{field}", getattr(self, field) >= 1, "a positive number", getattr(self, field))
        check("data.num_workers", self.num_workers >= 0, "a number that is not negative", self.num_workers)
        check("data.text_dropout", 0 <= self.text_dropout <= 1, "a number in [0, 1]", self.text_dropout)
        check("data.on_bad_record", self.on_bad_record in ("stop", "skip"), "stop or skip", self.on_bad_record)


class Rows(Protocol):
    """How a family lays samples out in rows: a frozen dataclass of capacities and sizes, `rows` of an experiment.

    Attributes:
      token_capacities: fields that count tokens which are split over the mesh's axis seq.
      samples_per_row: slots.
      code_field: field that says where codes of pictures come from, and what they are called.
      stored_codes: whether pictures come as the codes that lie in the records.
    """

    token_capacities: ClassVar[tuple[str, ...]]
    code_field: ClassVar[str]
    samples_per_row: int

    @property
    def stored_codes(self) -> bool:
        """See above."""


def _is_weighted_set(entry: Any) -> bool:
    if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], str) or not entry[0]:
        return False
    weight = entry[1]
    return (isinstance(weight, numbers.Real) and not isinstance(weight, bool) and math.isfinite(weight)
            and weight > 0)
