"""From item scores to the numbers that are reported, with standard errors over items, and paired differences."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from srum_jax.evaluation.benchmark import EvalItem, ItemScore, Total

RESAMPLES, SEED, LEVEL = 10_000, 0, 0.95
_CHUNK = 500  # resamples at once: bounds the memory


@dataclasses.dataclass(frozen=True)
class Mean:
    """A number, the standard error of it, and how many items it was taken over."""

    mean: float
    stderr: float | None  # None of a single item
    n: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much more one model has than the other, with the interval that holds it with probability 95 %."""

    difference: float
    low: float
    high: float


class Scores:
    """Values by category and name, one place for each item; NaN where an item has none."""

    def __init__(self, items: Sequence[EvalItem], scores: Mapping[str, ItemScore], failure: float | None = None):
        """Sorts them in.

        Args:
          items: all that are expected.
          scores: of those that were judged, by id.
          failure: what a failed item counts as; None: it has no value.
        """
        self.failed = sorted(score.item_id for score in scores.values() if score.failed)
        self._columns: dict[str, dict[str, np.ndarray]] = {}
        by_category: dict[str, list[EvalItem]] = {}
        for item in items:
            by_category.setdefault(item.category, []).append(item)
        for category, members in by_category.items():
            found = [scores.get(item.id) for item in members]
            names = dict.fromkeys(name for score in found if score is not None for name in score.values)
            names = names or {"score": None}
            self._columns[category] = {
                name: np.array([self._value(score, name, failure) for score in found]) for name in names}

    @staticmethod
    def _value(score: ItemScore | None, name: str, failure: float | None) -> float:
        if score is None:
            return np.nan
        if score.failed:
            return np.nan if failure is None else failure
        return score.values[name]

    def column(self, category: str, value: str) -> np.ndarray:
        """Float64, one place for each item of the category."""
        columns = self._columns.get(category, {"score": np.zeros(0)})
        return columns[value] if value in columns else np.full_like(next(iter(columns.values())), np.nan)

    def mean(self, total: Total) -> Mean | None:
        """Of the items that have a value; None if a term has none at all."""
        mean, variance, count, counted = 0.0, 0.0, 0, set()
        for term in total.terms:
            column = self.column(term.category, term.value)
            values = column[~np.isnan(column)]
            if not len(values):
                return None
            mean += term.weight * values.mean()
            variance += term.weight**2 * (values.var(ddof=1) / len(values) if len(values) > 1 else np.nan)
            count += 0 if term.category in counted else len(values)
            counted.add(term.category)
        return Mean(float(mean), None if np.isnan(variance) else float(np.sqrt(variance)), count)

    def is_whole(self, total: Total) -> bool:
        """Whether every item of it has a value."""
        return not any(np.isnan(self.column(term.category, term.value)).any() for term in total.terms)


def paired_difference(mine: Scores, others: Scores, total: Total) -> Difference | None:
    """Paired bootstrap over items, within each category: 10,000 resamples, seed 0, 95 percent.

    Items that either side has no value for are left out of both. None if a term has no items then.

    Args:
      mine: of one model.
      others: of the other, for the same items.
      total: which number.
    """
    rng = np.random.default_rng(SEED)
    difference, resampled = 0.0, np.zeros(RESAMPLES)
    by_category: dict[str, np.ndarray] = {}  # weighted values of the same items are drawn together
    for term in total.terms:
        values = term.weight * (mine.column(term.category, term.value) - others.column(term.category, term.value))
        by_category[term.category] = by_category.get(term.category, 0.0) + values
    for values in by_category.values():
        values = values[~np.isnan(values)]
        if not len(values):
            return None
        difference += values.mean()
        for first in range(0, RESAMPLES, _CHUNK):
            drawn = rng.integers(0, len(values), (_CHUNK, len(values)))
            resampled[first : first + _CHUNK] += values[drawn].mean(axis=1)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(float(difference), float(low), float(high))
