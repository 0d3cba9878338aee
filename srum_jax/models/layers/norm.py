"""Normalisations. Statistics are float32 whatever the dtype of the input."""

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.layers.parameter import along_last, ones, parameter, zeros


class RMSNorm(nnx.Module):
    """`x / rms(x) * scale` over the last axis; the normalised value is rounded to x's dtype before scaling."""

    def __init__(self, features: int, eps: float, *, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        self.scale = parameter(ones, (features,), ("norm",), rngs=rngs, stack=stack)
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises [..., features]."""
        x32 = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
        y = (x32 * jax.lax.rsqrt(mean_square + self.eps)).astype(x.dtype)
        return y * along_last(self.scale[...], y)


class LayerNorm(nnx.Module):
    """Standard layer normalisation over the last axis."""

    def __init__(self, features: int, eps: float, *, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        self.scale = parameter(ones, (features,), ("norm",), rngs=rngs, stack=stack)
        self.bias = parameter(zeros, (features,), ("norm",), rngs=rngs, stack=stack)
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises [..., features]."""
        x32 = x.astype(jnp.float32)
        mean = jnp.mean(x32, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(x32 - mean), axis=-1, keepdims=True)
        y = (x32 - mean) * jax.lax.rsqrt(variance + self.eps)
        return (y * along_last(self.scale[...], x32) + along_last(self.bias[...], x32)).astype(x.dtype)


class GroupNorm(nnx.Module):
    """Normalises groups of channels over all pixels of an image."""

    def __init__(self, features: int, eps: float, *, rngs: nnx.Rngs, num_groups: int = 32):
        if features % num_groups:
            raise ValueError(f"GroupNorm: expected a multiple of {num_groups} channels, found {features}.")
        self.scale = parameter(ones, (features,), ("norm",), rngs=rngs)
        self.bias = parameter(zeros, (features,), ("norm",), rngs=rngs)
        self.eps, self.num_groups = eps, num_groups

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises [B, H, W, features]."""
        grouped = x.astype(jnp.float32).reshape(*x.shape[:-1], self.num_groups, -1)
        mean = jnp.mean(grouped, axis=(1, 2, 4), keepdims=True)
        variance = jnp.mean(jnp.square(grouped - mean), axis=(1, 2, 4), keepdims=True)
        y = ((grouped - mean) * jax.lax.rsqrt(variance + self.eps)).reshape(x.shape)
        return (y * along_last(self.scale[...], y) + along_last(self.bias[...], y)).astype(x.dtype)
