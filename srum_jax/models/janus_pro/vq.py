"""The tokenizer of pictures (VQ-16): a picture to a grid of codes and back. Images are [B, H, W, C].

B pictures · g codes along a side · K codes of the codebook · e width of a code
"""


import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.janus_pro.config import VQConfig
from srum_jax.models.layers.autoencoder_blocks import NORM_EPS, SAME, Level, Middle
from srum_jax.models.layers.linear import Conv, Embedding
from srum_jax.models.layers.norm import GroupNorm
from srum_jax.models.layers.parameter import along_last
from srum_jax.models.layers.tap import Tap, no_tap

_LEAST_NORM = 1e-12


class Encoder(nnx.Module):
    """Pixels to cells, with the codebook that they are looked up in."""

    def __init__(self, config: VQConfig, *, rngs: nnx.Rngs):
        widths = [config.ch * multiple for multiple in config.ch_mult]
        inputs, last = [config.ch, *widths[:-1]], len(widths) - 1
        self.conv_in = Conv(3, config.ch, 3, padding=SAME, rngs=rngs)
        self.down = nnx.List(
            Level([i] + [o] * config.num_res_blocks, down=level < last, attention=level == last,
                  num_groups=config.num_groups, rngs=rngs)
            for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )
        self.mid = Middle(widths[-1], num_groups=config.num_groups, rngs=rngs)
        self.norm_out = GroupNorm(widths[-1], NORM_EPS, num_groups=config.num_groups, rngs=rngs)
        self.conv_out = Conv(widths[-1], config.z_channels, 3, padding=SAME, rngs=rngs)
        self.quant_conv = Conv(config.z_channels, config.code_width, 1, rngs=rngs)
        self.codebook = Embedding(config.codebook_size, config.code_width, rngs=rngs)

    def __call__(self, x: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """[B, H, W, 3] in [-1, 1] to [B, g, g, e], not normalised."""
        x = self.conv_in(x)
        tap("conv_in", x)
        for number, level in enumerate(self.down):
            x = level(x, _below(tap, f"block_{number}"))
        x = self.norm_out(self.mid(x, tap))
        tap("norm_out", x)
        x = self.conv_out(jax.nn.silu(x))
        tap("conv_out", x)
        return self.quant_conv(x)

    def unit_codebook(self) -> jax.Array:
        """The codebook with rows of length 1, float32 [K, e]."""
        return _unit(self.codebook.embedding[...].astype(jnp.float32))


class ImageDecoder(nnx.Module):
    """Rows of the codebook to pixels. Levels run from the lowest resolution to the highest."""

    def __init__(self, config: VQConfig, *, rngs: nnx.Rngs):
        widths = [config.ch * multiple for multiple in reversed(config.ch_mult)]
        inputs, last = [widths[0], *widths[:-1]], len(widths) - 1
        self.post_quant_conv = Conv(config.code_width, config.z_channels, 1, rngs=rngs)
        self.conv_in = Conv(config.z_channels, widths[0], 3, padding=SAME, rngs=rngs)
        self.mid = Middle(widths[0], num_groups=config.num_groups, rngs=rngs)
        self.up = nnx.List(
            Level([i] + [o] * (config.num_res_blocks + 1), up=level < last, attention=level == 0,
                  num_groups=config.num_groups, rngs=rngs)
            for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )
        self.norm_out = GroupNorm(widths[-1], NORM_EPS, num_groups=config.num_groups, rngs=rngs)
        self.conv_out = Conv(widths[-1], 3, 3, padding=SAME, rngs=rngs)

    def __call__(self, z: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """[B, g, g, e] to [B, H, W, 3]."""
        x = self.post_quant_conv(z)
        tap("post_quant_conv", x)
        x = self.conv_in(x)
        tap("conv_in", x)
        x = self.mid(x, tap)
        for number, level in enumerate(self.up):
            x = level(x, _below(tap, f"block_{number}"))
        x = self.norm_out(x)
        tap("norm_out", x)
        x = self.conv_out(jax.nn.silu(x))
        tap("conv_out", x)
        return x


class VQ(nnx.Module):
    """Pictures to codes and back. In float32: less precise networks choose other codes."""

    def __init__(self, config: VQConfig, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = ImageDecoder(config, rngs=rngs)
        self.config = config

    def encode(self, pictures: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """Pictures [B, H, W, 3] in [-1, 1] to codes int32 [B, g * g], row by row."""
        z = self.encoder(pictures.astype(jnp.float32), tap)
        nearest = jnp.argmin(self.distances(z), axis=-1)  # the first on ties
        return nearest.reshape(len(pictures), -1).astype(jnp.int32)

    def distances(self, z: jax.Array) -> jax.Array:
        """Squared distances between directions: what the encoder gives [B, g, g, e] to float32 [B, g, g, K]."""
        z, codes = _unit(z), self.encoder.unit_codebook()
        products = jnp.einsum("...e,ke->...k", z, codes)
        squares = jnp.sum(jnp.square(z), axis=-1, keepdims=True) + along_last(jnp.sum(jnp.square(codes), axis=-1), z)
        return squares - 2 * products

    def rows(self, codes: jax.Array) -> jax.Array:
        """Codes int32 [B, g * g] to float32 [B, g, g, e]."""
        grid = codes.reshape(len(codes), self.config.grid, self.config.grid)
        return jnp.take(self.encoder.unit_codebook(), grid, axis=0)

    def decode(self, codes: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """Codes int32 [B, g * g] to pixels float32 [B, H, W, 3], nominally in [-1, 1] and not clipped."""
        return self.decoder(self.rows(codes), tap)


def to_bytes(pixels: jax.Array) -> jax.Array:
    """Decoded pixels to uint8; what is behind the point is cut off, as in the reference."""
    return jnp.clip((pixels.astype(jnp.float32) + 1) / 2 * 255, 0, 255).astype(jnp.uint8)


def from_bytes(pixels: jax.Array) -> jax.Array:
    """Uint8 to float32 in [-1, 1]."""
    return (pixels.astype(jnp.float32) / 255.0 - 0.5) / 0.5


def _unit(x: jax.Array) -> jax.Array:
    length = jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True))
    return x / jnp.maximum(length, _LEAST_NORM)


def _below(tap: Tap, name: str) -> Tap:
    return lambda inner, value: tap(f"{name}.{inner}", value)


