"""How parameters are made: with a name for each of their dimensions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

Initializer = Callable[[jax.Array, tuple[int, ...], jnp.dtype], jax.Array]

zeros: Initializer = jax.nn.initializers.zeros
ones: Initializer = jax.nn.initializers.ones
normal: Initializer = jax.nn.initializers.normal(0.02)


class FixedTable(nnx.Variable):
    """A constant of the architecture which checkpoints store and training never touches."""


def parameter(
    initializer: Initializer, shape: tuple[int, ...], axes: tuple[str, ...], *, rngs: nnx.Rngs,
    stack: tuple[int, ...] = (),
) -> nnx.Param:
    """A float32 parameter whose metadata `axes` names each dimension, for the sharding rules.

    Args:
      initializer: fills one layer's values.
      shape: shape of one layer's values.
      axes: a logical name for each dimension of `shape`.
      rngs: source of random numbers.
      stack: leading dimensions, if this stands for the parameters of several scanned layers.
    """
    # Fan-in does not enter any initializer used here, so a stack may be drawn in one go.
    values = initializer(rngs.params(), stack + shape, jnp.float32)
    return nnx.Param(values, axes=("layers",) * len(stack) + axes)


class _OneKey:
    """Stands for `nnx.Rngs` where no values are wanted: its traced counters would take most of the time of tracing."""

    def __init__(self):
        self._key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self._key


def abstract_model(make: Callable[..., nnx.Module], *args, **options) -> tuple[nnx.GraphDef, nnx.State]:
    """The structure of `make(*args, rngs=..., **options)` and the shapes of its variables; nothing is allocated.

    Returns:
      The graph definition, and a state whose values are `jax.ShapeDtypeStruct`.
    """
    return nnx.split(nnx.eval_shape(lambda: make(*args, rngs=_OneKey(), **options)))


def along_last(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A vector [C], cast and reshaped to broadcast against the last axis of `like` [..., C]."""
    return jnp.expand_dims(vector.astype(like.dtype), tuple(range(like.ndim - 1)))
