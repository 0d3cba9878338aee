"""Means that stay exact however the batch is split."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WeightedSum:
    """A sum of values and the sum of their weights, kept apart until the whole batch has been seen.

    Adding two of them merges two parts of a batch; the mean is taken once, at the end.
    """

    total: jax.Array  # float32 []
    weight: jax.Array  # float32 []

    @classmethod
    def of(cls, values: jax.Array, weights: jax.Array) -> "WeightedSum":
        """Sums `values * weights` and `weights` (same shape; bool or float weights) in float32.

        Values of weight zero do not count, whatever they are.
        """
        weights = weights.astype(jnp.float32)
        return cls(jnp.sum(jnp.where(weights != 0, values.astype(jnp.float32) * weights, 0.0)), jnp.sum(weights))

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> jax.Array:
        """Total over weight; 0 where nothing was counted."""
        return jnp.where(self.weight > 0, self.total / jnp.where(self.weight > 0, self.weight, 1.0), 0.0)
