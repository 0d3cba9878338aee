"""An exponential moving average of the trained parameters.

    ema <- decay * ema + (1 - decay) * parameters        after every update

It is kept in float32, laid out as the parameters: in bfloat16 it would never move.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.training.config import EmaConfig


def averaged(ema: nnx.State, parameters: nnx.State, updates: jax.Array, config: EmaConfig) -> nnx.State:
    """The average after an update.

    Args:
      ema: before it.
      parameters: after it.
      updates: int32 [], updates done, this one included.
      config: decay, warm-up, start.
    """
    count = updates - config.start_step
    rate = 1 - config.decay
    if config.warmup:
        rate = jnp.maximum(rate, 9 / (10 + jnp.maximum(count, 0).astype(jnp.float32)))

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        moved = old + rate * (new - old)
        return jnp.where(count > 0, moved, new) if config.start_step else moved

    return jax.tree.map(average, ema, parameters)
