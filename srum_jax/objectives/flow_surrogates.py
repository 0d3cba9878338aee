"""Policy gradient and preference for pictures of a flow, which has no log probability at hand.

The mean squared velocity error e of a picture, under one time and one noise, stands in the place of minus the log
probability. Both objectives are surrogates; what they report begins with `flow_` and is no likelihood.

    rho = exp(c (e_old - e)), then clipped as in `policy_gradient`      flow policy optimisation (arXiv 2507.21053)
    z = -beta ((e_winner - ref_winner) - (e_loser - ref_loser)),
    L = -log sigmoid(z)                                                 Diffusion-DPO (arXiv 2311.12908)

At rho = 1 the gradient of the first is c times that of flow matching weighted by the advantage; the clip takes the
place of a floor. For e_old = 0.100, e = 0.101, c = 20: rho = 0.98. The second needs the reference: how hard a picture
is differs between pictures as much as the reward does, and only the reference takes that out.
"""

import jax
import jax.numpy as jnp

from srum_jax.objectives.config import FlowPolicyGradient, FlowPreference
from srum_jax.objectives.policy_gradient import MOST_OFF_ONE, clipped_surrogate, details_of, most_off_one
from srum_jax.objectives.preference import complete, pair_members, preference_loss
from srum_jax.objectives.token_scores import (
    Columns,
    Stream,
    TokenMasks,
    TokenScores,
    error_by_time,
    membership,
    sample_means,
    streams_of,
)
from srum_jax.objectives.weighted_sum import WeightedSum


def flow_margin(
    winner: jax.Array, loser: jax.Array, reference_winner: jax.Array, reference_loser: jax.Array, beta: float
) -> jax.Array:
    """`z` of velocity errors, and of those of a reference model, under one time and one noise."""
    return -beta * ((winner - reference_winner) - (loser - reference_loser))


def policy_totals(settings: FlowPolicyGradient, masks: TokenMasks, columns: Columns) -> jax.Array:
    """Pictures, float32 []."""
    del settings
    return jnp.sum(jnp.any(membership(_pictures(None, masks, columns)), axis=1), dtype=jnp.float32)


def policy_share_of_loss(
    settings: FlowPolicyGradient, scores: TokenScores, masks: TokenMasks, columns: Columns, totals: jax.Array
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """See `objective_loss`."""
    members = membership(_pictures(scores, masks, columns))  # [B, C, samples]
    weight = jnp.any(members, axis=1)
    error, advantage = (sample_means(values, members) for values in (scores.image_error, columns.image["advantage"]))
    old = jax.lax.stop_gradient(error) if settings.on_policy else sample_means(columns.image["old_error"], members)
    surrogate = clipped_surrogate(-settings.scale * error, -settings.scale * old, advantage, settings.epsilon_low,
                                  settings.epsilon_high)
    summed = WeightedSum.of(surrogate.loss, weight)
    logged = {"loss/flow_policy": summed}
    logged |= {f"flow_policy/{key}": WeightedSum.of(detail, weight) for key, detail in details_of(surrogate).items()}
    logged[f"flow_policy/{MOST_OFF_ONE}"] = most_off_one(surrogate, weight)
    logged |= _by_time(scores, masks, columns.image["advantage"])
    return summed.total / jnp.maximum(totals, 1.0), logged


def preference_totals(settings: FlowPreference, masks: TokenMasks, columns: Columns) -> jax.Array:
    """Pairs, float32 []."""
    del settings
    return jnp.sum(complete(pair_members(_pictures(None, masks, columns))))


def preference_share_of_loss(
    settings: FlowPreference, scores: TokenScores, masks: TokenMasks, columns: Columns, totals: jax.Array
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """See `objective_loss`."""
    members = pair_members(_pictures(scores, masks, columns))  # [B, C, pairs, 2]
    weight = complete(members)
    errors, references = (sample_means(values, members)
                          for values in (scores.image_error, columns.image["reference_error"]))
    z = flow_margin(errors[..., 0], errors[..., 1], references[..., 0], references[..., 1], settings.beta)
    pairs = WeightedSum.of(preference_loss(z, settings.smoothing), weight)
    change = errors - references
    values = {"margin": z, "accuracy": z > 0, "winner_change": change[..., 0], "loser_change": change[..., 1]}
    logged = {"loss/flow_preference": pairs}
    logged |= {f"flow_preference/{key}": WeightedSum.of(value, weight) for key, value in values.items()}
    return pairs.total / jnp.maximum(totals, 1.0), logged | _by_time(scores, masks, columns.image["side"])


def _pictures(scores: TokenScores | None, masks: TokenMasks, columns: Columns) -> Stream:
    return streams_of(scores, masks, columns)["image"]


def _by_time(scores: TokenScores, masks: TokenMasks, side: jax.Array) -> dict[str, WeightedSum]:
    """The error in each quarter of the time, of better and of worse pictures."""
    return {name.replace("loss_by_time", f"loss_by_time_{kind}"): total
            for kind, chosen in (("better", side > 0), ("worse", side < 0))
            for name, total in error_by_time(scores, masks, chosen).items()}
