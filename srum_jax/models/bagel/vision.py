"""The vision tower: SigLIP over packed patches of several images.

B rows · C patches · D width
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.bagel.config import VisionConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import Attention
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Embedding, Linear
from srum_jax.models.layers.norm import LayerNorm


def gelu(x: jax.Array) -> jax.Array:
    """The tanh form of GELU."""
    return jax.nn.gelu(x, approximate=True)


class VisionLayer(nnx.Module):
    """One pre-norm encoder layer, or the stacked parameters of all of them."""

    def __init__(
        self, config: VisionConfig, *, rngs: nnx.Rngs, stack: tuple[int, ...] = (), dtype: jnp.dtype = jnp.float32
    ):
        def linear(in_features: int, out_features: int) -> Linear:
            return Linear(in_features, out_features, rngs=rngs, stack=stack, dtype=dtype)

        width = config.hidden_size
        self.norm1 = LayerNorm(width, config.layer_norm_eps, rngs=rngs, stack=stack, dtype=dtype)
        self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
        self.norm2 = LayerNorm(width, config.layer_norm_eps, rngs=rngs, stack=stack, dtype=dtype)
        self.fc1 = linear(width, config.intermediate_size)
        self.fc2 = linear(config.intermediate_size, width)
        self.num_heads = config.num_heads

    def __call__(self, x: jax.Array, attention: Attention) -> jax.Array:
        """[B, C, D] to [B, C, D]."""
        normed = self.norm1(x)
        heads = (p(normed).reshape(*x.shape[:-1], self.num_heads, -1) for p in (self.query, self.key, self.value))
        x = x + self.out(attention(*heads).reshape(x.shape))
        return x + self.fc2(gelu(self.fc1(self.norm2(x))))


class VisionTower(nnx.Module):
    """Patch embedding, learned positions, encoder layers, final norm."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: jnp.dtype = jnp.float32):
        self.patch_embed = Linear(config.patch_values, config.hidden_size, rngs=rngs, dtype=dtype)
        self.position_embed = Embedding(config.num_positions, config.hidden_size, rngs=rngs, dtype=dtype)
        self.layers = VisionLayer(config, rngs=rngs, stack=(config.num_layers,), dtype=dtype)
        self.post_norm = LayerNorm(config.hidden_size, config.layer_norm_eps, rngs=rngs, dtype=dtype)
        self.num_layers = config.num_layers

    def __call__(
        self, patches: jax.Array, position_ids: jax.Array, attention: Attention, compute: ComputeConfig, tap=None
    ) -> jax.Array:
        """Encodes packed patches.

        Args:
          patches: [B, C, patch values], pixels in [-1, 1].
          position_ids: int32 [B, C], rows of the learned table.
          attention: full within an image, blocked between images.
          compute: remat policy, and whether to scan.
          tap: called with "vit_layer" after each layer; needs `compute.scan_layers` False.

        Returns:
          [B, C, D], after the final norm.
        """
        x = run_layers(
            self.layers, lambda layer, x: layer(x, attention),
            self.patch_embed(patches) + self.position_embed(position_ids, patches.dtype), num_layers=self.num_layers,
            compute=compute, after_each=None if tap is None else functools.partial(tap, "vit_layer"),
        )
        return self.post_norm(x)


class Connector(nnx.Module):
    """Two linear maps from the tower's width to the language model's."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs, dtype: jnp.dtype = jnp.float32):
        self.fc1 = Linear(in_features, out_features, rngs=rngs, dtype=dtype)
        self.fc2 = Linear(out_features, out_features, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., in] to [..., out]."""
        return self.fc2(gelu(self.fc1(x)))
