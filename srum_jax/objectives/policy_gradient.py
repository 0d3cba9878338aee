"""Policy gradients from the advantages of a group (GRPO, arXiv 2402.03300, equations 3 and 4).

    rho = exp(lp - lp_old)
    l = -min(rho A, clip(rho, 1 - epsilon_low, 1 + epsilon_high) A) + beta k3
    k3 = exp(ref - lp) - (ref - lp) - 1          never negative; its mean is KL(policy || reference)

by token, with the advantage A of the token's sequence. For lp = -0.5, lp_old = -1, A = 1, epsilon_high = 0.28:
rho = 1.65, l = -1.28, and no gradient. Tokens are added up in one of three ways:

    token       mean over all tokens of the batch alike
    sequence    mean over each sequence first: tokens of short answers count more
    constant    each sequence over the same largest length (Dr. GRPO, arXiv 2503.20783)
"""

import dataclasses

import jax
import jax.numpy as jnp

from srum_jax.objectives.config import PolicyGradient
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores, membership, streams_of
from srum_jax.objectives.weighted_sum import WeightedSum

MOST_OFF_ONE = "ratio_most_off_one"


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """The clipped surrogate of each token, all of the shape of the log probabilities."""

    loss: jax.Array  # float32
    ratio: jax.Array  # float32
    clipped_low: jax.Array  # bool: no gradient, as a worse token has become rarer already
    clipped_high: jax.Array  # bool: no gradient, as a better token has become more frequent already


def clipped_surrogate(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, epsilon_low: float, epsilon_high: float
) -> Surrogate:
    """The first part of `l` at the top."""
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1 - epsilon_low, 1 + epsilon_high)
    return Surrogate(-jnp.minimum(ratio * advantage, clipped * advantage), ratio,
                     (advantage < 0) & (ratio < 1 - epsilon_low), (advantage > 0) & (ratio > 1 + epsilon_high))


def kl_estimates(log_prob: jax.Array, reference_log_prob: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """k1, k2 and k3 of KL(policy || reference) at samples of the policy (Schulman, "Approximating KL divergence")."""
    difference = log_prob - reference_log_prob
    return difference, jnp.square(difference) / 2, jnp.expm1(-difference) + difference


def totals(settings: PolicyGradient, masks: TokenMasks, columns: Columns) -> dict[str, jax.Array]:
    """What the sums over image and over text tokens are divided by, float32 [] each."""
    found = {}
    for name, stream in streams_of(None, masks, columns).items():
        sequences = jnp.sum(jnp.any(membership(stream), axis=1), dtype=jnp.float32)
        found[name] = {"token": jnp.sum(membership(stream), dtype=jnp.float32), "sequence": sequences,
                       "constant": sequences * settings.constant_length}[settings.reduction]
    return found


def share_of_loss(
    settings: PolicyGradient, scores: TokenScores, masks: TokenMasks, columns: Columns, totals: dict[str, jax.Array]
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """See `objective_loss`."""
    loss, logged = jnp.zeros((), jnp.float32), {}
    for name, stream in streams_of(scores, masks, columns).items():
        members = membership(stream)  # [B, L, samples]
        mask = jnp.any(members, axis=-1)
        log_prob = jnp.where(mask, stream.log_prob, 0.0)
        old = jax.lax.stop_gradient(log_prob) if settings.on_policy else stream.columns["old_log_prob"]
        surrogate = clipped_surrogate(log_prob, old, stream.columns["advantage"], settings.epsilon_low,
                                      settings.epsilon_high)
        value = surrogate.loss
        # The log probabilities are of tokens that the policy drew: minus their mean estimates its entropy.
        details = details_of(surrogate) | {"approx_kl": jnp.square(log_prob - old) / 2, "entropy": -log_prob}
        if settings.kl_coefficient:
            k3 = kl_estimates(log_prob, stream.columns["reference_log_prob"])[2]
            value = value + settings.kl_coefficient * k3
            details["kl"] = k3
        weight = mask.astype(jnp.float32)
        if settings.reduction == "sequence":
            lengths = jnp.sum(members, axis=1, keepdims=True)
            weight = jnp.sum(members / jnp.maximum(lengths, 1), axis=-1)
        summed = WeightedSum.of(value, weight)
        loss += summed.total / jnp.maximum(totals[name], 1.0)
        logged |= {f"loss/policy_{name}": summed}
        logged |= {f"policy/{name}_{key}": WeightedSum.of(detail, mask) for key, detail in details.items()}
        logged[f"policy/{name}_{MOST_OFF_ONE}"] = most_off_one(surrogate, mask)
    return loss, logged


def details_of(surrogate: Surrogate) -> dict[str, jax.Array]:
    """What is logged of each ratio, by name."""
    return {"ratio": surrogate.ratio, "ratio_off_one": jnp.abs(surrogate.ratio - 1),
            "clipped_low": surrogate.clipped_low, "clipped_high": surrogate.clipped_high}


def most_off_one(surrogate: Surrogate, mask: jax.Array) -> WeightedSum:
    """The largest of a (micro-)batch: the mean that is logged is over these."""
    most = jnp.max(jnp.where(mask, jnp.abs(surrogate.ratio - 1), 0.0), initial=0.0)
    return WeightedSum(most.astype(jnp.float32), jnp.ones((), jnp.float32))
