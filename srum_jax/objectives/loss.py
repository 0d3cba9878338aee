"""From settings to a loss: which arithmetic belongs to which objective, and how `Joint` puts two together.

    L = generation_coefficient L_generation + understanding_coefficient L_understanding

Each is a mean over its own valid units, so that the many tokens of a picture do not drown the few of a text; a
direction without valid units adds exactly 0.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from srum_jax.objectives import flow_surrogates, policy_gradient, preference, reward_weighted
from srum_jax.objectives.config import (
    FlowPolicyGradient,
    FlowPreference,
    Joint,
    PolicyGradient,
    Preference,
    RewardWeighted,
)
from srum_jax.objectives.objective import Objective
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores
from srum_jax.objectives.weighted_sum import WeightedSum


class _Arithmetic(NamedTuple):
    """Both get the settings of the objective first, and then what the functions below get."""

    totals: Callable[..., Any]
    share_of_loss: Callable[..., tuple[jax.Array, dict[str, WeightedSum]]]


_ARITHMETIC = {
    RewardWeighted: _Arithmetic(reward_weighted.totals, reward_weighted.share_of_loss),
    Preference: _Arithmetic(preference.totals, preference.share_of_loss),
    PolicyGradient: _Arithmetic(policy_gradient.totals, policy_gradient.share_of_loss),
    FlowPolicyGradient: _Arithmetic(flow_surrogates.policy_totals, flow_surrogates.policy_share_of_loss),
    FlowPreference: _Arithmetic(flow_surrogates.preference_totals, flow_surrogates.preference_share_of_loss),
}


def objective_totals(objective: Objective, masks: TokenMasks, columns: Columns) -> Any:
    """Denominators of the means, of all that `masks` covers; a tree of float32 []."""
    if isinstance(objective, Joint):
        return {name: objective_totals(part, *_side(name, masks, columns)) for name, part in _parts(objective)}
    return _ARITHMETIC[type(objective)].totals(objective, masks, columns)


def objective_loss(
    objective: Objective, scores: TokenScores, masks: TokenMasks, columns: Columns, totals: Any
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """A (micro-)batch's share of the step's loss, float32 [], and sums with their weights to be logged.

    Args:
      objective: its settings.
      scores, masks, columns: of this batch.
      totals: of the *whole step*; shares of micro-batches then simply add up.
    """
    if not isinstance(objective, Joint):
        return _ARITHMETIC[type(objective)].share_of_loss(objective, scores, masks, columns, totals)
    loss, logged = jnp.zeros((), jnp.float32), {}
    for name, part in _parts(objective):
        share, sums = objective_loss(part, scores, *_side(name, masks, columns), totals[name])
        loss += getattr(objective, f"{name}_coefficient") * share
        logged |= sums
    return loss, logged


def _parts(joint: Joint) -> list[tuple[str, Objective]]:
    return [("generation", joint.generation), ("understanding", joint.understanding)]


def _side(name: str, masks: TokenMasks, columns: Columns) -> tuple[TokenMasks, Columns]:
    """What a part gets to see."""
    if name == "generation":
        return dataclasses.replace(masks, text=jnp.zeros_like(masks.text)), Columns(columns.image, {})
    return dataclasses.replace(masks, image=jnp.zeros_like(masks.image)), Columns({}, columns.text)
