"""Dual rewards: how likely a model makes the input, given an output that was drawn for it (SUDER, arXiv 2506.07963).

    R_U(caption | picture) = mean over the picture's codes of log p(code | caption, codes before)
    R_G(picture | prompt)  = mean over the prompt's tokens of log p(token | picture, tokens before)

at temperature 1, without guidance. A flow model has no likelihood of a picture at hand; the error of its velocity
stands in its place, under draws that are common to all captions of the picture:

    R_U(caption | picture) = - sum_k w_k e_k / sum_k w_k,     e_k = mean (v(x_tk, t_k | caption) - (eps_k - x0))^2

Logits (0, ln 3) and (ln 3, 0) with labels (1, 1) have token log probabilities ln 3/4 and ln 1/4: a mean of -0.837.
Errors 0.1 and 0.3 of equal weight make a reward of -0.2.

A reward is a number, no path of a gradient: everything here is computed in float32 and for its value alone.

L tokens · K draws
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Likelihood:
    """Log probability of the counted tokens of each sequence."""

    total: jax.Array  # float32 [...]
    tokens: jax.Array  # float32 [...], how many were counted

    @property
    def mean(self) -> jax.Array:
        """Per token, float32 [...]; 0 where nothing was counted."""
        return self.total / jnp.maximum(self.tokens, 1.0)

    @property
    def valid(self) -> jax.Array:
        """Bool [...]: something was counted."""
        return self.tokens > 0


def token_log_probs(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Log probability of each label, float32 [..., L]; finite for all finite logits.

    Args:
      logits: [..., L, vocabulary].
      labels: int [..., L].
    """
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def likelihood(log_probs: jax.Array, mask: jax.Array) -> Likelihood:
    """Adds up the counted tokens of each sequence; the others may be anything.

    Args:
      log_probs: [..., L].
      mask: bool or 0/1 [..., L].
    """
    mask = mask.astype(bool)
    return Likelihood(jnp.sum(jnp.where(mask, log_probs.astype(jnp.float32), 0.0), axis=-1),
                      jnp.sum(mask, axis=-1, dtype=jnp.float32))


def reward_of_errors(errors: jax.Array, weights: jax.Array) -> jax.Array:
    """The stand-in for R_U, float32 [...].

    Args:
      errors: mean squared velocity errors [..., K], under the same times and noises for all that is compared.
      weights: [K] of the draws, see the top; all alike by default of the method.
    """
    weights = jnp.asarray(weights, jnp.float32)
    return -jnp.einsum("...k,k->...", errors.astype(jnp.float32), weights, precision="highest") / jnp.sum(weights)


def likelihood_bound_weights(times: jax.Array) -> jax.Array:
    """`(1 - t) / t`: weights under which the errors bound the likelihood. They make a *worse* reward: what no caption
    tells decides near t = 0."""
    return (1 - times) / times


def strata(low: float, high: float, draws: int, offset: float = 0.5) -> np.ndarray:
    """One time in each of `draws` equal parts of [low, high), float32 [K].

    Args:
      low, high: 0 <= low < high <= 1.
      draws: K.
      offset: in [0, 1), where in its part each time lies; one half is the middle.

    Raises:
      ValueError: an argument is out of range.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"times: expected 0 <= low < high <= 1, found {low} and {high}.")
    if draws < 1:
        raise ValueError(f"draws: expected a positive number, found {draws}.")
    return (low + (high - low) * (np.arange(draws) + offset) / draws).astype(np.float32)
