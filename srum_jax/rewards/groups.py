"""What the rewards of a group say of its members: who won, who lost, and by how much each is better than the rest.

A group are the outputs that were drawn for one input. On the host, in float64: these are a few numbers.

G groups · N members
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

MIN_SPREAD = 1e-8  # of the rewards of a group, below which its members are alike
STD_SCALES = ("group", "batch", "none")
ALPHAS = ("positive", "signed", "srum", "exponential")


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The best and the worst member of each group."""

    best: np.ndarray  # int64 [G]
    worst: np.ndarray  # int64 [G], never the best
    gap: np.ndarray  # float64 [G], best minus worst; 0 where fewer than two members count
    weight: np.ndarray  # float64 [G]: 1, or 0 where the gap is too small to mean anything

    @property
    def degenerate_share(self) -> float:
        """Of groups without a pair."""
        return float(np.mean(self.weight == 0))


def best_and_worst(rewards: np.ndarray, valid: np.ndarray, min_gap: float) -> Pairs:
    """Ties go to the lowest number; the worst is chosen among the others.

    Args:
      rewards: [G, N], N at least 2; those of members that do not count may be anything.
      valid: bool [G, N].
      min_gap: a gap that is not larger makes no pair.
    """
    rewards, valid = np.asarray(rewards, np.float64), np.asarray(valid, bool)
    groups = np.arange(len(rewards))
    best = np.argmax(np.where(valid, rewards, -np.inf), axis=1)
    others = valid.copy()
    others[groups, best] = False
    fallback = np.where(best == 0, 1, 0)
    worst = np.where(others.any(axis=1), np.argmin(np.where(others, rewards, np.inf), axis=1), fallback)
    two = others.any(axis=1) & valid.any(axis=1)
    gap = np.zeros(len(rewards))
    gap[two] = rewards[groups, best][two] - rewards[groups, worst][two]
    return Pairs(best, worst, gap, (gap > min_gap).astype(np.float64))


def advantages(
    rewards: np.ndarray, valid: np.ndarray, *, scale: str = "group", ddof: int = 1, epsilon: float = 1e-4
) -> np.ndarray:
    """`(r - mean of the group) / (std + epsilon)`, float64 [G, N]; exactly 0 without spread and for who does not count.

    Args:
      rewards: [G, N].
      valid: bool [G, N].
      scale: whose standard deviation divides: that of the "group" (GRPO, arXiv 2402.03300), of all rewards of the
        "batch", or "none" (Dr. GRPO, arXiv 2503.20783).
      ddof: 1 for the deviation of a sample, 0 for that of a population.
      epsilon: added to it.

    Raises:
      ValueError: there is no such scale.
    """
    if scale not in STD_SCALES:
        raise ValueError(f"scale: expected one of {', '.join(STD_SCALES)}, found {scale!r}.")
    valid = np.asarray(valid, bool)
    rewards = np.where(valid, np.asarray(rewards, np.float64), 0.0)
    count = valid.sum(axis=1, keepdims=True)
    mean = rewards.sum(axis=1, keepdims=True) / np.maximum(count, 1)
    centred = np.where(valid, rewards - mean, 0.0)
    if scale == "group":
        divisor = np.sqrt((centred**2).sum(axis=1, keepdims=True) / np.maximum(count - ddof, 1)) + epsilon
    elif scale == "batch":
        divisor = (rewards[valid].std(ddof=ddof) if valid.sum() > ddof else 0.0) + epsilon
    else:
        divisor = 1.0
    return np.where(spread(rewards, valid)[:, None] > MIN_SPREAD, centred / divisor, 0.0)


def spread(rewards: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Largest minus smallest reward of each group, float64 [G]; 0 where nobody counts."""
    high = np.where(valid, rewards, -np.inf).max(axis=1)
    low = np.where(valid, rewards, np.inf).min(axis=1)
    return np.where(np.asarray(valid).any(axis=1), high - low, 0.0)


def alpha_of_advantage(advantage: np.ndarray, rule: str, *, limit: float = 5.0, temperature: float = 1.0) -> np.ndarray:
    """The weight of each picture in the reward-weighted flow loss, float64 [G, N].

        positive      max(A, 0), at most `limit`: learns from the better half alone
        signed        A cut off at +-`limit`; the objective then needs a factor_floor, or has no lower bound
        srum          (clip(A / 2, -1, 1) + 1) / 2, in the range of a judged picture's alpha
        exponential   N softmax(A / temperature) over the group, A cut off likewise

    Raises:
      ValueError: there is no such rule.
    """
    advantage = np.asarray(advantage, np.float64)
    if rule == "positive":
        return np.clip(advantage, 0.0, limit)
    if rule == "signed":
        return np.clip(advantage, -limit, limit)
    if rule == "srum":
        return (global_score(advantage) + 1) / 2
    if rule == "exponential":
        scaled = np.clip(advantage, -limit, limit) / temperature
        weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True) * advantage.shape[-1]
    raise ValueError(f"alpha_of: expected one of {', '.join(ALPHAS)}, found {rule!r}.")


def global_score(advantage: np.ndarray) -> np.ndarray:
    """An advantage in the range of a judged picture's global score, [-1, 1]: `clip(A / 2, -1, 1)`."""
    return np.clip(np.asarray(advantage) / 2, -1.0, 1.0)


def relative_scores(rewards: Sequence[float]) -> list[float]:
    """Of one group, by `global_score`: 0 for all where they are alike."""
    group = np.array([rewards], np.float64)
    return global_score(advantages(group, np.ones_like(group, bool)))[0].tolist()
