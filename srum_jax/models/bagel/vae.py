"""The FLUX-style autoencoder. Images and latents are [B, H, W, C].

Attribute names follow the stored tensors' names.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.bagel.config import AutoencoderConfig
from srum_jax.models.layers.linear import Conv
from srum_jax.models.layers.norm import GroupNorm

_SAME = ((1, 1), (1, 1))
_NORM_EPS = 1e-6
# At 1024 pixels the middle attention has 16,384 tokens; its scores are computed for this many queries at a time.
_QUERY_BLOCK = 4096


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posterior:
    """The encoder's normal distribution over latents, before scale and shift. float32 [B, h, w, z]."""

    mean: jax.Array
    logvar: jax.Array


class ResidualBlock(nnx.Module):
    """Two convolutions around a skip connection."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.norm1 = GroupNorm(in_features, _NORM_EPS, rngs=rngs, dtype=dtype)
        self.conv1 = Conv(in_features, out_features, 3, rngs=rngs, padding=_SAME, dtype=dtype)
        self.norm2 = GroupNorm(out_features, _NORM_EPS, rngs=rngs, dtype=dtype)
        self.conv2 = Conv(out_features, out_features, 3, rngs=rngs, padding=_SAME, dtype=dtype)
        self.nin_shortcut = Conv(in_features, out_features, 1, rngs=rngs, dtype=dtype) if (
            in_features != out_features) else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, in] to [B, H, W, out]."""
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return y + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class PixelAttention(nnx.Module):
    """One head over all pixels."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.norm = GroupNorm(features, _NORM_EPS, rngs=rngs, dtype=dtype)
        self.q, self.k, self.v, self.proj_out = (Conv(features, features, 1, rngs=rngs, dtype=dtype) for _ in range(4))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H, W, C]."""
        normed = self.norm(x)
        query, key, value = (
            conv(normed).reshape(x.shape[0], -1, 1, x.shape[-1]) for conv in (self.q, self.k, self.v)
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

    def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.block_1 = ResidualBlock(features, features, rngs=rngs, dtype=dtype)
        self.attn_1 = PixelAttention(features, rngs=rngs, dtype=dtype)
        self.block_2 = ResidualBlock(features, features, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array, tap=None) -> jax.Array:
        """[B, h, w, C] to [B, h, w, C]; `tap` is called with the attention's output."""
        x = self.attn_1(self.block_1(x))
        if tap is not None:
            tap("mid_attn", x)
        return self.block_2(x)


class Level(nnx.Module):
    """The blocks of one resolution, and the change to the next one."""

    def __init__(self, widths: list[int], *, down: bool = False, up: bool = False, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.block = nnx.List(
            [ResidualBlock(i, o, rngs=rngs, dtype=dtype) for i, o in itertools.pairwise(widths)]
        )
        # One row below and one column on the right, nothing above and on the left.
        self.downsample = Conv(
            widths[-1], widths[-1], 3, rngs=rngs, stride=2, padding=((0, 1), (0, 1)), dtype=dtype) if down else None
        self.upsample = Conv(widths[-1], widths[-1], 3, rngs=rngs, padding=_SAME, dtype=dtype) if up else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, in] to [B, H', W', out]."""
        for block in self.block:
            x = block(x)
        if self.downsample is not None:
            x = self.downsample(x)
        if self.upsample is not None:
            x = self.upsample(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))
        return x


class Encoder(nnx.Module):
    """Pixels to the parameters of the posterior."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs, dtype: jnp.dtype):
        widths = [config.ch * multiple for multiple in config.ch_mult]
        inputs = [config.ch, *widths[:-1]]
        self.conv_in = Conv(config.in_channels, config.ch, 3, rngs=rngs, padding=_SAME, dtype=dtype)
        self.down = nnx.List(
            Level([i] + [o] * config.num_res_blocks, down=level < len(widths) - 1, rngs=rngs, dtype=dtype)
            for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )
        self.mid = Middle(widths[-1], rngs=rngs, dtype=dtype)
        self.norm_out = GroupNorm(widths[-1], _NORM_EPS, rngs=rngs, dtype=dtype)
        self.conv_out = Conv(widths[-1], 2 * config.z_channels, 3, rngs=rngs, padding=_SAME, dtype=dtype)

    def __call__(self, x: jax.Array, tap=None) -> jax.Array:
        """[B, H, W, 3] to [B, H/8, W/8, 2 z]."""
        x = self.conv_in(x)
        if tap is not None:
            tap("conv_in", x)
        for level in self.down:
            x = level(x)
        x = self.mid(x, tap)
        return self.conv_out(jax.nn.silu(self.norm_out(x)))


class ImageDecoder(nnx.Module):
    """Latents to pixels. Levels are numbered as in the encoder and run from the last to the first."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs, dtype: jnp.dtype):
        widths = [config.ch * multiple for multiple in config.ch_mult]
        inputs = [*widths[1:], widths[-1]]
        self.conv_in = Conv(config.z_channels, widths[-1], 3, rngs=rngs, padding=_SAME, dtype=dtype)
        self.mid = Middle(widths[-1], rngs=rngs, dtype=dtype)
        self.up = nnx.List(
            Level([i] + [o] * (config.num_res_blocks + 1), up=level > 0, rngs=rngs, dtype=dtype)
            for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )
        self.norm_out = GroupNorm(widths[0], _NORM_EPS, rngs=rngs, dtype=dtype)
        self.conv_out = Conv(widths[0], config.out_ch, 3, rngs=rngs, padding=_SAME, dtype=dtype)

    def __call__(self, z: jax.Array, tap=None) -> jax.Array:
        """[B, h, w, z] to [B, 8 h, 8 w, 3]."""
        x = self.conv_in(z)
        if tap is not None:
            tap("conv_in", x)
        x = self.mid(x, tap)
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(jax.nn.silu(self.norm_out(x)))


class Autoencoder(nnx.Module):
    """Images to latents and back."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs, dtype: jnp.dtype = jnp.float32):
        self.encoder = Encoder(config, rngs=rngs, dtype=dtype)
        self.decoder = ImageDecoder(config, rngs=rngs, dtype=dtype)
        self.scale_factor, self.shift_factor = config.scale_factor, config.shift_factor

    def posterior(self, images: jax.Array, tap=None) -> Posterior:
        """The distribution of latents of pixels in [-1, 1], [B, H, W, 3]; parameters in float32."""
        mean, logvar = jnp.split(self.encoder(images, tap).astype(jnp.float32), 2, axis=-1)
        return Posterior(mean, logvar)

    def sample(self, posterior: Posterior, noise: jax.Array) -> jax.Array:
        """Latents `scale * (mean + std * noise - shift)`, float32 [B, h, w, z]."""
        latent = posterior.mean + jnp.exp(0.5 * posterior.logvar) * noise
        return self.scale_factor * (latent - self.shift_factor)

    def decode(self, latent: jax.Array, tap=None) -> jax.Array:
        """Pixels, nominally in [-1, 1] and not clipped, of scaled latents [B, h, w, z]."""
        return self.decoder(latent / self.scale_factor + self.shift_factor, tap)
