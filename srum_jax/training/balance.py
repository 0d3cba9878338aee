"""Both directions of a step pull alike: the gradient of texts is scaled to the norm of that of pictures.

One batch says little about a norm, so the scale comes from running means. They lie in the optimizer's state, and so in
every checkpoint.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

_KEPT = 0.9  # of the running mean, when the norm of a step is added; ours
_ROUNDING = 1e-5  # share of the other direction's norm; a difference of equal gradients is no larger, and says nothing


class BalanceState(NamedTuple):
    """Running means, 0 before there is a norm; all float32 []."""

    generation_norm: jax.Array
    understanding_norm: jax.Array
    understanding_scale: jax.Array  # that the last update used


def balance_directions() -> optax.GradientTransformationExtraArgs:
    """From g + u to g + s u, where s is the running mean of |g| over that of |u|; 1 until both are known.

    A step without valid units of a direction has no gradient of it, or one of mere rounding, and leaves its mean as it
    was. `update` takes the gradient of pictures g as `of_generation`, a tree like the updates.
    """

    def init(parameters: optax.Params) -> BalanceState:
        del parameters
        zero = jnp.zeros((), jnp.float32)
        return BalanceState(zero, zero, jnp.ones((), jnp.float32))

    def update(
        updates: optax.Updates, state: BalanceState, params: optax.Params | None = None, *,
        of_generation: optax.Updates,
    ) -> tuple[optax.Updates, BalanceState]:
        del params
        of_understanding = jax.tree.map(jnp.subtract, updates, of_generation)
        norms = optax.global_norm(of_generation), optax.global_norm(of_understanding)
        least = _ROUNDING * jnp.maximum(*norms)
        generation, understanding = (
            _mean(old, jnp.where(norm > least, norm, 0.0)) for old, norm in
            zip((state.generation_norm, state.understanding_norm), norms, strict=True))
        known = (generation > 0) & (understanding > 0)
        scale = jnp.where(known, generation / jnp.where(known, understanding, 1.0), 1.0)
        balanced = jax.tree.map(lambda g, u: g + scale.astype(u.dtype) * u, of_generation, of_understanding)
        return balanced, BalanceState(generation, understanding, scale)

    return optax.GradientTransformationExtraArgs(init, update)


def _mean(old: jax.Array, norm: jax.Array) -> jax.Array:
    """The running mean with one more norm; one that is 0 or no number does not count."""
    found = jnp.where(old > 0, _KEPT * old + (1 - _KEPT) * norm, norm)
    return jnp.where((norm > 0) & jnp.isfinite(norm), found, old)
