"""Affine maps, embeddings and convolutions that compute in the dtype of their input."""

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.layers.parameter import Initializer, along_last, normal, parameter, zeros
from srum_jax.models.layers.quantized import product


class Linear(nnx.Module):
    """`x @ kernel + bias`, kernel stored as (in, out), in floats or quantized."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rngs: nnx.Rngs,
        axes: tuple[str, str] = ("small_in", "small_out"),
        use_bias: bool = True,
        stack: tuple[int, ...] = (),
        initializer: Initializer = normal,
    ):
        self.kernel = parameter(initializer, (in_features, out_features), axes, rngs=rngs, stack=stack)
        self.bias = parameter(zeros, (out_features,), (axes[1],), rngs=rngs, stack=stack) if use_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., in] to [..., out]."""
        y = product(x, self.kernel.get_value())
        return y if self.bias is None else y + along_last(self.bias[...], y)


class Embedding(nnx.Module):
    """A learned table, looked up by row."""

    def __init__(
        self,
        num_rows: int,
        features: int,
        *,
        rngs: nnx.Rngs,
        axes: tuple[str, str] = ("small_in", "small_out"),
    ):
        self.embedding = parameter(normal, (num_rows, features), axes, rngs=rngs)

    def __call__(self, rows: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Rows int32 [...] to [..., features] in `dtype`."""
        return jnp.take(self.embedding[...].astype(dtype), rows, axis=0)


class Conv(nnx.Module):
    """A two-dimensional convolution over [B, H, W, C], kernel stored as (height, width, in, out)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    ):
        shape = (kernel_size, kernel_size, in_features, out_features)
        initializer = jax.nn.initializers.normal((kernel_size**2 * in_features) ** -0.5)
        self.kernel = parameter(initializer, shape, ("conv", "conv", "conv", "conv"), rngs=rngs)
        self.bias = parameter(zeros, (out_features,), ("conv",), rngs=rngs)
        self.stride, self.padding = stride, padding

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, in] to [B, H', W', out]."""
        y = jax.lax.conv_general_dilated(
            x, self.kernel[...].astype(x.dtype), (self.stride, self.stride), self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + along_last(self.bias[...], y)
