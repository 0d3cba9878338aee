"""Sinusoidal features of a time, or of another number."""

import math

import jax
import jax.numpy as jnp

from srum_jax.models.layers.parameter import along_last

_MAX_PERIOD = 10000.0  # of the slowest frequency, over 2 pi


def timestep_features(timestep: jax.Array, width: int = 256) -> jax.Array:
    """Cosines, then sines, of the time at geometrically spaced frequencies.

    Args:
      timestep: float32 [...], or another number, on the scale that the network was trained with. Kept in float32:
        neighbouring times collide in bfloat16.
      width: values per time, even.

    Returns:
      float32 [..., width].
    """
    half = width // 2
    frequency = jnp.exp(-math.log(_MAX_PERIOD) * jnp.arange(half, dtype=jnp.float32) / half)
    timestep = timestep.astype(jnp.float32)[..., None]
    angle = timestep * along_last(frequency, timestep)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
