"""The tower whose pooled features are what BLIP3o draws: EVA-CLIP-E/14-plus.

B pictures · P patches · D width · G pooled features along a side
"""


import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.blip3o.feature_config import EvaConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Conv, Linear
from srum_jax.models.layers.norm import LayerNorm
from srum_jax.models.layers.parameter import normal, parameter
from srum_jax.models.layers.tap import Tap, no_tap


class EvaLayer(nnx.Module):
    """One encoder layer, or the stacked parameters of all: the norms are on what the branches give (post-norm)."""

    def __init__(self, config: EvaConfig, *, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        def linear(in_features: int, out_features: int, axes: tuple[str, str]) -> Linear:
            return Linear(in_features, out_features, rngs=rngs, axes=axes, stack=stack)

        width, hidden = config.width, config.mlp_width
        self.qkv = linear(width, 3 * width, ("embed_in", "heads_out"))
        self.out = linear(width, width, ("heads_in", "embed_out"))
        self.norm1 = LayerNorm(width, config.norm_eps, rngs=rngs, stack=stack)
        self.fc1 = linear(width, hidden, ("embed_in", "mlp_out"))
        self.fc2 = linear(hidden, width, ("mlp_in", "embed_out"))
        self.norm2 = LayerNorm(width, config.norm_eps, rngs=rngs, stack=stack)
        self.num_heads = config.num_heads

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, 1 + P, D] to [B, 1 + P, D]."""
        heads = self.qkv(x).reshape(*x.shape[:-1], 3, self.num_heads, -1)
        attended = jax.nn.dot_product_attention(*(heads[..., i, :, :] for i in range(3)))
        x = x + self.norm1(self.out(attended.reshape(x.shape)))
        return x + self.norm2(self.fc2(jax.nn.gelu(self.fc1(x), approximate=False)))


class EvaTower(nnx.Module):
    """Patch embedding, class token, learned positions, encoder layers; no norm at the end."""

    def __init__(self, config: EvaConfig, *, rngs: nnx.Rngs):
        self.patch_embed = Conv(3, config.width, config.patch_size, stride=config.patch_size, rngs=rngs)
        axes = ("small_in", "small_in", "small_out")
        self.class_token = parameter(normal, (1, 1, config.width), axes, rngs=rngs)
        self.position = parameter(normal, (1, config.grid**2 + 1, config.width), axes, rngs=rngs)
        self.layers = EvaLayer(config, rngs=rngs, stack=(config.num_layers,))
        self.config = config

    def __call__(
        self, images: jax.Array, compute: ComputeConfig, tap: Tap = no_tap
    ) -> jax.Array:
        """Features of every patch.

        Args:
          images: float32 [B, H, W, 3], an `eva_crop` that was `normalised`.
          compute: precision, remat.
          tap: called with "patch_embed", and "block" after each layer; needs an unscanned, unrematerialised model.

        Returns:
          [B, P, D], row by row, without the class token.
        """
        dtype = compute.compute_dtype
        patches = self.patch_embed(images.astype(dtype))
        patches = patches.reshape(len(images), -1, self.config.width)
        tap("patch_embed", patches)
        first = jnp.broadcast_to(self.class_token[...].astype(dtype), (len(images), 1, self.config.width))
        x = jnp.concatenate([first, patches], axis=1) + self.position[...].astype(dtype)
        x = run_layers(
            self.layers, lambda layer, x: layer(x), x, num_layers=self.config.num_layers, compute=compute,
            after_each=None if tap is no_tap else lambda x: tap("block", x),
        )
        return x[:, 1:]

    def pooled(self, features: jax.Array) -> jax.Array:
        """Means of squares of patches, what the diffusion transformer draws: [B, P, D] to float32 [B, G, G, D]."""
        grid, stride = self.config.pooled_grid, self.config.pooling_stride
        squares = features.astype(jnp.float32).reshape(-1, grid, stride, grid, stride, self.config.width)
        return jnp.mean(squares, axis=(2, 4))
