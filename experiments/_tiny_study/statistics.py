"""Means and differences with confidence intervals, paired over the same prompts and the same noise."""

import dataclasses
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds it with probability 95 %."""

    mean: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Bootstrap over prompts: pictures of one prompt under several seeds stay together.

    Args:
      values: float [S, P], a mark per seed and prompt.
      seed: of the resampling.
    """
    per_prompt = values.mean(axis=0)
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for first in range(0, RESAMPLES, 1000):
        drawn = rng.integers(0, len(per_prompt), (1000, len(per_prompt)))
        means[first : first + 1000] = per_prompt[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(per_prompt.mean()), float(low), float(high))


def clustered_interval(values: np.ndarray, clusters: Sequence[str], strata: Sequence[str]) -> Interval:
    """Bootstrap over sentences within each category, for several pictures of a sentence.

    The mean is that of the categories, each the mean of its sentences, each the mean of its pictures. All pictures of a
    sentence stay together, those of several runs too; how many sentences a category has is fixed by design.

    Args:
      values: float [S, P], a mark per seed and picture.
      clusters: [P], the sentence of each picture.
      strata: [P], its category.
    """
    per_picture, strata_of = values.mean(axis=0), dict(zip(clusters, strata, strict=True))
    names, places = np.unique(np.array(clusters), return_inverse=True)
    per_sentence = np.bincount(places, per_picture) / np.bincount(places)
    category = np.array([strata_of[name] for name in names])
    groups = [per_sentence[category == one] for one in dict.fromkeys(strata)]
    rng = np.random.default_rng(0)
    means = np.mean([group[rng.integers(0, len(group), (RESAMPLES, len(group)))].mean(axis=1) for group in groups],
                    axis=0)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.mean([group.mean() for group in groups])), float(low), float(high))


def difference(values: np.ndarray, others: np.ndarray, seed: int = 0) -> Interval:
    """Of two models' marks for the same prompts and noise: arguments as for `mean_interval`.

    Raises:
      ValueError: other seeds or prompts.
    """
    if values.shape != others.shape:
        raise ValueError(f"marks: expected the same seeds and prompts, found {values.shape} and {others.shape}.")
    return mean_interval(values - others, seed)
