"""Layers of SigLIP towers. Families differ in how pictures come in, and in the form of GELU.

B rows · C patches · D width
"""

from typing import Protocol

import jax
from flax import nnx

from srum_jax.models.layers.attention import Attention
from srum_jax.models.layers.linear import Linear
from srum_jax.models.layers.norm import LayerNorm


class SiglipSizes(Protocol):
    """The part of a tower's configuration that its layers depend on."""

    hidden_size: int
    intermediate_size: int
    num_heads: int
    layer_norm_eps: float


class SiglipLayer(nnx.Module):
    """One pre-norm encoder layer, or the stacked parameters of all of them."""

    def __init__(
        self, config: SiglipSizes, *, tanh: bool, rngs: nnx.Rngs, stack: tuple[int, ...] = (),
    ):
        """Makes the parameters.

        Args:
          config: sizes.
          tanh: whether GELU is taken in its tanh form instead of the exact one.
          rngs: source of random numbers.
          stack: number of layers, if this stands for all of them.
        """
        def linear(in_features: int, out_features: int) -> Linear:
            return Linear(in_features, out_features, rngs=rngs, stack=stack)

        width = config.hidden_size
        self.norm1 = LayerNorm(width, config.layer_norm_eps, rngs=rngs, stack=stack)
        self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
        self.norm2 = LayerNorm(width, config.layer_norm_eps, rngs=rngs, stack=stack)
        self.fc1 = linear(width, config.intermediate_size)
        self.fc2 = linear(config.intermediate_size, width)
        self.num_heads, self.tanh = config.num_heads, tanh

    def __call__(self, x: jax.Array, attention: Attention) -> jax.Array:
        """[B, C, D] to [B, C, D]."""
        normed = self.norm1(x)
        heads = (p(normed).reshape(*x.shape[:-1], self.num_heads, -1) for p in (self.query, self.key, self.value))
        x = x + self.out(attention(*heads).reshape(x.shape))
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=self.tanh))
