"""Rotary position embedding, half-split form."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RotaryAngles:
    """Cosines and sines of each token's angles. float32 [B, S, 1, head_dim / 2]."""

    cos: jax.Array
    sin: jax.Array


def rotary_angles(position: jax.Array, head_dim: int, theta: float) -> RotaryAngles:
    """Angles `position * theta^(-2 j / head_dim)` for j = 0 .. head_dim / 2 - 1.

    Always float32: in bfloat16 positions 256 and 257 would be one and the same.

    Args:
      position: int32 [B, S].
      head_dim: width of a head, even.
      theta: base of the frequencies.
    """
    frequency = theta ** (-2.0 * jnp.arange(head_dim // 2, dtype=jnp.float32) / head_dim)
    angle = position.astype(jnp.float32)[:, :, None, None] * frequency[None, None, None, :]
    return RotaryAngles(jnp.cos(angle), jnp.sin(angle))


def rotate(x: jax.Array, angles: RotaryAngles) -> jax.Array:
    """Turns each pair (x[j], x[j + head_dim / 2]) by its angle; computed in float32.

    Args:
      x: [B, S, heads, head_dim].
      angles: of the same tokens.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = (first * angles.cos - second * angles.sin, second * angles.cos + first * angles.sin)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
