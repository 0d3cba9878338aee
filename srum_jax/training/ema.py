"""An exponential moving average of the trained parameters.

    ema <- decay * ema + (1 - decay) * parameters        after every update

It is kept in float32, laid out as the parameters: in bfloat16 it would never move.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx


@dataclasses.dataclass(frozen=True)
class EmaConfig:
    """How the parameters are averaged."""

    decay: float = 0.999  # looks back over about 1 / (1 - decay) updates
    warmup: bool = False  # the n-th averaged update has decay (1 + n) / (10 + n) at most: the start is soon forgotten
    start_step: int = 0  # updates before the first that is averaged; until then the average is the parameters

    def __post_init__(self):
        if not 0 < self.decay < 1:
            raise ValueError(f"ema.decay: expected a number between 0 and 1, found {self.decay}.")
        if self.start_step < 0:
            raise ValueError(f"ema.start_step: expected at least 0, found {self.start_step}.")


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
