"""One TFRecord shard, its index and its sidecar, all under their names when they are complete."""

import collections
import contextlib
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from srum_jax.data.manifest import sidecar_path
from srum_jax.data.schema import RewardRecord
from srum_jax.data.tfrecord import INDEX_SUFFIX, frame
from srum_jax.storage import atomic_file, object_store
from srum_jax.storage.errors import writing


class ShardStatistics:
    """What is known of the records of a shard: running sums, so that one of any size needs no memory."""

    def __init__(self):
        self._ids: list[str] = []  # of the first record, and of the last
        self._sums = {"num_regions": 0, "score_sum": 0.0, "score_square_sum": 0.0, "num_negative_regions": 0,
                      "num_global": 0, "global_sum": 0.0, "global_square_sum": 0.0}
        self._histogram: collections.Counter[int] = collections.Counter()

    def add(self, record: RewardRecord) -> None:
        """Takes one record, in the order of the shard."""
        self._ids = [*self._ids[:1], record.record_id]
        self._histogram[len(record.regions)] += 1
        for region in record.regions:
            score = float(np.float32(region.score))  # as a reader of the shard finds it, so that both count the same
            self._add(num_regions=1, score_sum=score, score_square_sum=score**2, num_negative_regions=int(score < 0))
        if record.global_score is not None:
            score = float(np.float32(record.global_score))
            self._add(num_global=1, global_sum=score, global_square_sum=score**2)

    def _add(self, **sums: float) -> None:
        for name, value in sums.items():
            self._sums[name] += value

    def to_json(self) -> dict[str, Any]:
        """Part of the shard's sidecar."""
        histogram = {str(n): count for n, count in sorted(self._histogram.items())}
        return {"first_id": self._ids[0] if self._ids else None, "last_id": self._ids[-1] if self._ids else None,
                "statistics": self._sums | {"regions_per_record": histogram}}


class ShardWriter:
    """One shard being written: a temporary file, its offsets and running sums.

    Nothing has the shard's name before `commit`.

    Args:
      path: of the shard.
      folder: where the temporary file lies: beside the shard, or on the local disk.
    """

    def __init__(self, path: epath.Path, folder: epath.Path):
        self.path, self.temporary = path, folder / atomic_file.partial_name(path).name
        self.offsets = [0]
        self.digest = hashlib.sha256()
        self.statistics = ShardStatistics()

    @property
    def num_records(self) -> int:
        """Records so far."""
        return len(self.offsets) - 1

    @property
    def num_bytes(self) -> int:
        """Bytes so far."""
        return self.offsets[-1]

    def write(self, record: RewardRecord, data: bytes) -> None:
        """Adds a record.

        Args:
          record: for the statistics.
          data: the record, encoded.

        Raises:
          WriteError: naming the file and the bytes that it needs.
        """
        framed = frame(data)
        with writing(self.path, self.num_bytes + len(framed)):
            with self.temporary.open("ab") as file:  # not held open: there may be any number of shards
                file.write(framed)
        self.digest.update(framed)
        self.offsets.append(self.num_bytes + len(framed))
        self.statistics.add(record)

    def commit(self, num_rejects: Mapping[str, int]) -> dict[str, Any]:
        """Puts data, index and sidecar under their names, in this order; returns what the sidecar says.

        Args:
          num_rejects: records that belong here and were left out, by reason.

        Raises:
          WriteError: naming the file and the bytes that it needs.
        """
        with writing(self.path, self.num_bytes):
            with self.temporary.open("ab") as file:  # a shard without records is an empty file
                atomic_file.sync(file)
            if object_store.is_local(self.path):
                self.temporary.replace(self.path)
            else:
                object_store.put_file(self.path, self.temporary)
                self.temporary.unlink()
        atomic_file.write_bytes(os.fspath(self.path) + INDEX_SUFFIX, np.asarray(self.offsets, "<u8").tobytes())
        sidecar = {
            "file": self.path.name,
            "num_records": self.num_records,
            "num_bytes": self.num_bytes,
            "sha256": self.digest.hexdigest(),
            **self.statistics.to_json(),
            "num_rejects": dict(sorted(num_rejects.items())),
        }
        atomic_file.write_json(sidecar_path(self.path), sidecar)
        return sidecar

    def discard(self) -> None:
        """Removes the temporary file."""
        with contextlib.suppress(OSError):  # the first error is the one to be told
            self.temporary.unlink(missing_ok=True)
