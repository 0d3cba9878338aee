"""Figures over all candidates of a page, gathered one candidate at a time."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

from tools.make_rewards.report.maps import TokenMap

NUM_BINS = 41  # centred: for [-1, 1] at the multiples of 0.05, so that 0 has a bin of its own


class Histogram:
    """Counts of numbers in a range, and their mean."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high
        self.counts = np.zeros(NUM_BINS, np.int64)
        self.total = 0.0

    def add(self, values: Any) -> None:
        """Counts numbers inside the range."""
        values = np.asarray(values, np.float64).reshape(-1)
        places = np.rint((values - self.low) / (self.high - self.low) * (NUM_BINS - 1)).astype(np.int64)
        self.counts += np.bincount(places, minlength=NUM_BINS)
        self.total += float(values.sum())

    @property
    def count(self) -> int:
        """How many numbers."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float | None:
        """None without any number."""
        return self.total / self.count if self.count else None

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return {"low": self.low, "high": self.high, "counts": self.counts.tolist(), "count": self.count,
                "mean": self.mean}


class _Group:
    """Figures of some candidates: those of a category, or all."""

    def __init__(self):
        self.counts: collections.Counter[str] = collections.Counter()
        self.region, self.layout = Histogram(-1, 1), Histogram(-1, 1)
        self.negative_regions = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts a candidate."""
        self.counts.update(["candidates", *(["judged"] if "status" in row else []),
                            *([row["state"]] if row["state"] in ("rejected", "exported") else [])])
        scores = [region["score"] for region in row.get("regions", ())]
        self.region.add(scores)
        self.negative_regions += sum(score < 0 for score in scores)
        if "global" in row:
            self.layout.add(row["global"]["score"])

    def counted(self) -> dict[str, int]:
        """Candidates by what became of them."""
        return {name: self.counts[name] for name in ("candidates", "judged", "rejected", "exported")}

    def to_json(self) -> dict[str, Any]:
        """A line of the table by category."""
        share = self.negative_regions / self.region.count if self.region.count else None
        return {**self.counted(), "regions": self.region.count, "region_mean": self.region.mean,
                "global_mean": self.layout.mean, "negative_regions": share}


class Statistics:
    """Gathers what stands at the top of the page."""

    def __init__(self):
        self.all, self.categories = _Group(), collections.defaultdict(_Group)
        self.rejected: collections.Counter[tuple[str, str]] = collections.Counter()
        self.problems: collections.Counter[str] = collections.Counter()
        self.maps = {"paper": Histogram(-1, 1), "official": Histogram(0, 1)}
        self.negative: dict[str, list[float]] = {name: [0.0, 0] for name in self.maps}  # tokens: negative, all
        self.prompts: dict[int, bool] = {}  # with a directive or not, by index

    def add(self, row: Mapping[str, Any], maps: Mapping[str, TokenMap], shares: Mapping[str, float | None]) -> None:
        """Counts a candidate.

        Args:
          row: of the page.
          maps: by variant; those of rejected candidates are not counted, as nothing trains on them.
          shares: of tokens with a negative factor, by variant.
        """
        self.all.add(row)
        self.categories[row.get("category", "")].add(row)
        self.prompts[row["index"]] = row.get("directive", False)
        self.problems.update(row.get("problems", {}))
        rejected = row.get("rejected")
        if rejected is not None:
            self.rejected[rejected["stage"], rejected["reason"]] += 1
        for name, found in maps.items() if rejected is None else ():
            self.maps[name].add(found.R)
            if shares[name] is not None:
                self.negative[name][0] += round(shares[name] * found.R.size)
                self.negative[name][1] += found.R.size

    def to_json(self) -> dict[str, Any]:
        """For the page; the same for equal candidates, in whatever order dictionaries were filled."""
        without = sum(not directive for directive in self.prompts.values())
        return {
            "counts": self.all.counted(),
            "prompts": len(self.prompts),
            "without_directive": without / len(self.prompts) if self.prompts else None,
            "rejected": [{"stage": stage, "reason": reason, "count": count}
                         for (stage, reason), count in sorted(self.rejected.items())],
            "problems": dict(sorted(self.problems.items())),
            "histograms": {name: histogram.to_json() for name, histogram in (
                ("region", self.all.region), ("global", self.all.layout), *self.maps.items())},
            "negative_factor": {name: part / whole if whole else None
                                for name, (part, whole) in self.negative.items()},
            "categories": [{"name": name, **category.to_json()} for name, category in sorted(self.categories.items())],
        }
