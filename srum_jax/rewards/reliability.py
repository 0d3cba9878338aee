"""Whether a reward can be trusted before anyone trains on it: does it rank the members of a group alike each time?

N members of a group · K draws of noise
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from srum_jax.rewards.rank_agreement import area_under_curve, kendall_tau


@dataclasses.dataclass(frozen=True)
class ScoredGroup:
    """The members of one group and what is known of their rewards."""

    category: str
    rewards: np.ndarray  # float64 [N]
    again: np.ndarray  # float64 [N]: the same, computed at another place of a batch
    draws: np.ndarray | None = None  # float64 [N, K] whose mean is the reward; None where it needs no draws
    reference: np.ndarray | None = None  # float64 [N], the mean of many draws
    right: np.ndarray | None = None  # bool [N], where somebody knows
    lengths: np.ndarray | None = None  # of texts, in words [N]
    other: np.ndarray | None = None  # float64 [N]: the likelihood of the same pairs in the other direction


def reliability(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Means over the groups that a measure has a value for; a measure that no group has is left out.

    Returns:
      tau_halves: Kendall's tau b between two disjoint halves of the draws.
      tau_reference: between the reward and the reference.
      tau_directions: between the reward and the other direction's likelihood of the same pairs.
      best_agrees, worst_agrees: share of groups whose best (worst) member is the reference's.
      auc, right_is_first: of the right members among all of their group.
      spread: standard deviation within a group; noise_floor: largest change of a reward that is computed again.
      length_correlation: of reward and length within groups.
    """
    found: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        if np.isfinite(value):
            found.setdefault(name, []).append(float(value))

    for group in groups:
        if group.draws is not None and group.draws.shape[1] > 1:
            add("tau_halves", kendall_tau(group.draws[:, ::2].mean(axis=1), group.draws[:, 1::2].mean(axis=1))[1])
        if group.reference is not None:
            add("tau_reference", kendall_tau(group.rewards, group.reference)[1])
            add("best_agrees", np.argmax(group.rewards) == np.argmax(group.reference))
            add("worst_agrees", np.argmin(group.rewards) == np.argmin(group.reference))
        if group.other is not None:
            add("tau_directions", kendall_tau(group.rewards, group.other)[1])
        if group.right is not None and group.right.any():
            add("auc", area_under_curve(group.rewards, group.right))
            add("right_is_first", group.right[np.argmax(group.rewards)])
        add("spread", group.rewards.std(ddof=1) if len(group.rewards) > 1 else np.nan)
        add("noise_floor", np.max(np.abs(group.rewards - group.again)))
        if group.lengths is not None and np.ptp(group.lengths) > 0 and np.ptp(group.rewards) > 0:
            add("length_correlation", np.corrcoef(group.lengths, group.rewards)[0, 1])
    return {name: max(values) if name == "noise_floor" else float(np.mean(values)) for name, values in found.items()}


def by_category(groups: Sequence[ScoredGroup]) -> Mapping[str, dict[str, float]]:
    """`reliability` of each category, in order of their names, and of "all"; with the number of groups."""
    names = sorted({group.category for group in groups})
    chosen = {name: [group for group in groups if group.category == name] for name in names if len(names) > 1}
    return {name: {"groups": len(some), **reliability(some)} for name, some in (chosen | {"all": groups}).items()}
