"""Preference of a better output over a worse one of the same input.

    s(y) = mean log probability per token of y
    z = beta (s_winner - s_loser) - gamma,       gamma = beta * gamma_beta_ratio
    L = -(1 - smoothing) log sigmoid(z) - smoothing log sigmoid(-z)          SimPO (arXiv 2405.14734, equation 6)

For s_winner = -1.2, s_loser = -1.9, beta = 2.5, ratio 0.5: z = 0.5, L = 0.474. No reference model. A flow has no log
probability at hand: `flow_surrogates.py`.
"""

import jax
import jax.numpy as jnp

from srum_jax.objectives.config import Preference
from srum_jax.objectives.token_scores import Columns, Stream, TokenMasks, TokenScores, sample_means, streams_of
from srum_jax.objectives.weighted_sum import WeightedSum


def preference_loss(z: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """The loss of each pair, of the shape of `z`; stable however far z is from 0.

    Args:
      z: scaled margins, float32.
      smoothing: assumed share of pairs that are the wrong way round, in [0, 0.5).
    """
    loss = -jax.nn.log_sigmoid(z)
    return loss if smoothing == 0 else (1 - smoothing) * loss - smoothing * jax.nn.log_sigmoid(-z)


def simpo_margin(winner: jax.Array, loser: jax.Array, beta: float, gamma_beta_ratio: float) -> jax.Array:
    """`z` of mean log probabilities per token. Minus mean errors may stand in their place, which is not recommended:
    how hard a picture is differs between pictures as much as the reward does."""
    return beta * (winner - loser) - beta * gamma_beta_ratio


def totals(settings: Preference, masks: TokenMasks, columns: Columns) -> dict[str, jax.Array]:
    """Pairs of pictures and of texts, float32 [] each."""
    del settings
    return {name: jnp.sum(complete(pair_members(stream))) for name, stream in streams_of(None, masks, columns).items()}


def share_of_loss(
    settings: Preference, scores: TokenScores, masks: TokenMasks, columns: Columns, totals: dict[str, jax.Array]
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """See `objective_loss`."""
    loss, logged = jnp.zeros((), jnp.float32), {}
    for name, stream in streams_of(scores, masks, columns).items():
        means = sample_means(stream.log_prob, pair_members(stream))  # [B, pairs, 2]
        weight = complete(pair_members(stream))
        winner, loser = means[..., 0], means[..., 1]
        z = simpo_margin(winner, loser, settings.beta, settings.gamma_beta_ratio)
        pairs = WeightedSum.of(preference_loss(z, settings.smoothing), weight)
        denominator = jnp.maximum(totals[name], 1.0)
        loss += pairs.total / denominator
        if settings.sft_coefficient:
            loss -= settings.sft_coefficient * WeightedSum.of(winner, weight).total / denominator
        values = {"margin": z, "accuracy": winner > loser, "winner_log_prob": winner, "loser_log_prob": loser}
        logged |= {f"loss/preference_{name}": pairs}
        logged |= {f"preference/{name}_{key}": WeightedSum.of(value, weight) for key, value in values.items()}
    return loss, logged


def pair_members(stream: Stream) -> jax.Array:
    """Which tokens belong to the winner and which to the loser of each pair, bool [B, L, pairs, 2]."""
    pair, side = stream.columns["pair"], stream.columns["side"]
    pairs = jnp.arange(max(stream.num_samples // 2, 1))
    of_pair = stream.mask[..., None] & (jnp.asarray(pair)[..., None] == pairs[None, None])
    return jnp.stack([of_pair & (side[..., None] > 0), of_pair & (side[..., None] < 0)], axis=-1)


def complete(members: jax.Array) -> jax.Array:
    """Pairs both of whose members are there, float32 [B, pairs]."""
    return jnp.all(jnp.any(members, axis=1), axis=-1).astype(jnp.float32)
