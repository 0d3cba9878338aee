"""Blocks of convolutional autoencoders in the style of latent diffusion (FLUX, SDXL, VQGAN). Images are [B, H, W, C].

Attribute names follow the stored tensors' names.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.layers.linear import Conv, Linear
from srum_jax.models.layers.norm import GroupNorm
from srum_jax.models.layers.tap import Tap, no_tap

SAME = ((1, 1), (1, 1))  # padding of a convolution of 3 x 3 that keeps the size
NORM_EPS = 1e-6
NORM_GROUPS = 32
# At 1024 pixels the middle attention has 16,384 tokens; its scores are computed for this many queries at a time.
_QUERY_BLOCK = 4096


class ResidualBlock(nnx.Module):
    """Two convolutions around a skip connection; a U-Net's also take an embedding of its time."""

    def __init__(
        self, in_features: int, out_features: int, *, rngs: nnx.Rngs, num_groups: int = NORM_GROUPS,
        eps: float = NORM_EPS, time_width: int | None = None,
    ):
        self.norm1 = GroupNorm(in_features, eps, rngs=rngs, num_groups=num_groups)
        self.conv1 = Conv(in_features, out_features, 3, rngs=rngs, padding=SAME)
        self.time_proj = None if time_width is None else Linear(time_width, out_features, rngs=rngs)
        self.norm2 = GroupNorm(out_features, eps, rngs=rngs, num_groups=num_groups)
        self.conv2 = Conv(out_features, out_features, 3, rngs=rngs, padding=SAME)
        self.nin_shortcut = Conv(in_features, out_features, 1, rngs=rngs) if (
            in_features != out_features) else None

    def __call__(self, x: jax.Array, time: jax.Array | None = None) -> jax.Array:
        """[B, H, W, in] to [B, H, W, out]; `time` [B, time_width] where the block was built for one."""
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        if self.time_proj is not None:
            y = y + self.time_proj(jax.nn.silu(time))[:, None, None]
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return y + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class PixelAttention(nnx.Module):
    """One head over all pixels. Its maps are stored as convolutions of 1 x 1, or as the matrices that these are."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, num_groups: int = NORM_GROUPS, matrices: bool = False):
        def pointwise() -> Linear | Conv:
            if matrices:
                return Linear(features, features, rngs=rngs)
            return Conv(features, features, 1, rngs=rngs)

        self.norm = GroupNorm(features, NORM_EPS, rngs=rngs, num_groups=num_groups)
        self.q, self.k, self.v, self.proj_out = (pointwise() for _ in range(4))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H, W, C]."""
        normed = self.norm(x)
        query, key, value = (
            pointwise(normed).reshape(x.shape[0], -1, 1, x.shape[-1]) for pointwise in (self.q, self.k, self.v)
        )
        num_pixels = query.shape[1]
        if num_pixels > _QUERY_BLOCK and num_pixels % _QUERY_BLOCK == 0:
            blocks = jnp.moveaxis(query.reshape(x.shape[0], -1, _QUERY_BLOCK, 1, x.shape[-1]), 1, 0)
            attended = jax.lax.map(lambda block: jax.nn.dot_product_attention(block, key, value), blocks)
            attended = jnp.moveaxis(attended, 0, 1)
        else:
            attended = jax.nn.dot_product_attention(query, key, value)
        return x + self.proj_out(attended.reshape(x.shape))


class Middle(nnx.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, num_groups: int = NORM_GROUPS, matrices: bool = False):
        self.block_1 = ResidualBlock(features, features, rngs=rngs, num_groups=num_groups)
        self.attn_1 = PixelAttention(features, rngs=rngs, num_groups=num_groups, matrices=matrices)
        self.block_2 = ResidualBlock(features, features, rngs=rngs, num_groups=num_groups)

    def __call__(self, x: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """[B, h, w, C] to [B, h, w, C]; `tap` is called with "mid_block_1", "mid_attn" and "mid_block_2"."""
        x = self.block_1(x)
        tap("mid_block_1", x)
        x = self.attn_1(x)
        tap("mid_attn", x)
        x = self.block_2(x)
        tap("mid_block_2", x)
        return x


class Level(nnx.Module):
    """The blocks of one resolution, perhaps with attention behind each, and the change to the next one."""

    def __init__(
        self, widths: list[int], *, down: bool = False, up: bool = False, attention: bool = False, rngs: nnx.Rngs,
        num_groups: int = NORM_GROUPS,
    ):
        self.block = nnx.List(
            ResidualBlock(i, o, rngs=rngs, num_groups=num_groups) for i, o in itertools.pairwise(widths)
        )
        self.attn = nnx.List(
            PixelAttention(width, rngs=rngs, num_groups=num_groups) for width in widths[1:]
        ) if attention else None
        # One row below and one column on the right, nothing above and on the left.
        self.downsample = Conv(
            widths[-1], widths[-1], 3, rngs=rngs, stride=2, padding=((0, 1), (0, 1))) if down else None
        self.upsample = Conv(widths[-1], widths[-1], 3, rngs=rngs, padding=SAME) if up else None

    def __call__(self, x: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """[B, H, W, in] to [B, H', W', out]; `tap` is called with "res_0", "attn_0", ..., "downsample", "upsample"."""
        for number, block in enumerate(self.block):
            x = block(x)
            tap(f"res_{number}", x)
            if self.attn is not None:
                x = self.attn[number](x)
                tap(f"attn_{number}", x)
        if self.downsample is not None:
            x = self.downsample(x)
            tap("downsample", x)
        if self.upsample is not None:
            x = self.upsample(doubled(x))
            tap("upsample", x)
        return x


def doubled(x: jax.Array) -> jax.Array:
    """Every pixel four times: [B, H, W, C] to [B, 2 H, 2 W, C]."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
