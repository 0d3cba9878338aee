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


class _Category:
    """One line of the table by category."""

    def __init__(self):
        self.counts: collections.Counter[str] = collections.Counter()
        self.region, self.layout = Histogram(-1, 1), Histogram(-1, 1)
        self.negative_regions = 0

    def to_json(self) -> dict[str, Any]:
        share = self.negative_regions / self.region.count if self.region.count else None
        return {**{name: self.counts[name] for name in ("candidates", "judged", "rejected", "exported")},
                "regions": self.region.count, "region_mean": self.region.mean, "global_mean": self.layout.mean,
                "negative_regions": share}


class Statistics:
    """Gathers what stands at the top of the page."""

    def __init__(self):
        self.counts: collections.Counter[str] = collections.Counter()
        self.rejected: collections.Counter[tuple[str, str]] = collections.Counter()
        self.problems: collections.Counter[str] = collections.Counter()
        self.histograms = {"region": Histogram(-1, 1), "global": Histogram(-1, 1), "paper": Histogram(-1, 1),
                           "official": Histogram(0, 1)}
        self.negative: dict[str, list[float]] = {"paper": [0.0, 0], "official": [0.0, 0]}  # tokens: negative, all
        self.categories: dict[str, _Category] = collections.defaultdict(_Category)
        self.prompts: dict[int, bool] = {}  # with a directive or not, by index

    def add(self, row: Mapping[str, Any], maps: Mapping[str, TokenMap], shares: Mapping[str, float | None]) -> None:
        """Counts a candidate.

        Args:
          row: of the page.
          maps: by variant; those of rejected candidates are not counted, as nothing trains on them.
          shares: of tokens with a negative factor, by variant.
        """
        category = self.categories[row.get("category", "")]
        self.prompts[row["index"]] = row.get("directive", False)
        states = ["candidates", *(["judged"] if "status" in row else [])]
        states += [row["state"]] if row["state"] in ("rejected", "exported") else []
        for counts in (self.counts, category.counts):
            counts.update(states)
        self.problems.update(row.get("problems", {}))
        rejected = row.get("rejected")
        if rejected is not None:
            self.rejected[rejected["stage"], rejected["reason"]] += 1
        scores = [region["score"] for region in row.get("regions", ())]
        for histogram in (self.histograms["region"], category.region):
            histogram.add(scores)
        category.negative_regions += sum(score < 0 for score in scores)
        if "global" in row:
            for histogram in (self.histograms["global"], category.layout):
                histogram.add(row["global"]["score"])
        for name, found in maps.items() if rejected is None else ():
            self.histograms[name].add(found.R)
            if shares[name] is not None:
                self.negative[name][0] += round(shares[name] * found.R.size)
                self.negative[name][1] += found.R.size

    def to_json(self) -> dict[str, Any]:
        """For the page; the same for equal candidates, in whatever order dictionaries were filled."""
        without = sum(not directive for directive in self.prompts.values())
        return {
            "counts": {name: self.counts[name] for name in ("candidates", "judged", "rejected", "exported")},
            "prompts": len(self.prompts),
            "without_directive": without / len(self.prompts) if self.prompts else None,
            "rejected": [{"stage": stage, "reason": reason, "count": count}
                         for (stage, reason), count in sorted(self.rejected.items())],
            "problems": dict(sorted(self.problems.items())),
            "histograms": {name: histogram.to_json() for name, histogram in self.histograms.items()},
            "negative_factor": {name: part / whole if whole else None
                                for name, (part, whole) in self.negative.items()},
            "categories": [{"name": name, **category.to_json()} for name, category in sorted(self.categories.items())],
        }
