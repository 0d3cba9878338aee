"""What is known of the records of one shard: running sums, so that a shard of any size needs no memory."""

import collections
from typing import Any

import numpy as np

from srum_jax.data.schema import RewardRecord


class ShardStatistics:
    """Sums over the records that were added."""

    def __init__(self):
        self._first_id: str | None = None
        self._last_id: str | None = None
        self._score_sum = self._score_square = 0.0
        self._global_sum = self._global_square = 0.0
        self._num_regions = self._num_negative = self._num_global = 0
        self._regions_histogram: collections.Counter[int] = collections.Counter()

    def add(self, record: RewardRecord) -> None:
        """Takes one record, in the order of the shard."""
        self._first_id = record.record_id if self._first_id is None else self._first_id
        self._last_id = record.record_id
        for region in record.regions:
            score = _stored(region.score)
            self._score_sum += score
            self._score_square += score**2
            self._num_negative += score < 0
        self._num_regions += len(record.regions)
        self._regions_histogram[len(record.regions)] += 1
        if record.global_score is not None:
            score = _stored(record.global_score)
            self._num_global += 1
            self._global_sum += score
            self._global_square += score**2

    def to_json(self) -> dict[str, Any]:
        """Part of the shard's sidecar."""
        return {
            "first_id": self._first_id,
            "last_id": self._last_id,
            "statistics": {
                "num_regions": self._num_regions,
                "score_sum": self._score_sum,
                "score_square_sum": self._score_square,
                "num_negative_regions": self._num_negative,
                "num_global": self._num_global,
                "global_sum": self._global_sum,
                "global_square_sum": self._global_square,
                "regions_per_record": {str(n): count for n, count in sorted(self._regions_histogram.items())},
            },
        }


def _stored(score: float) -> float:
    """As a reader of the shard finds it, so that both count the same."""
    return float(np.float32(score))
