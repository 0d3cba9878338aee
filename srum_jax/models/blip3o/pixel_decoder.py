"""From picture features to pixels: the U-Net and the decoding half of SDXL's autoencoder. Maps are [B, H, W, C]."""


import jax
from flax import nnx

from srum_jax.models.blip3o.pixel_config import PixelDecoderConfig, PixelVaeConfig
from srum_jax.models.blip3o.unet import UNet
from srum_jax.models.layers.autoencoder_blocks import NORM_EPS, SAME, Level, Middle
from srum_jax.models.layers.linear import Conv
from srum_jax.models.layers.norm import GroupNorm
from srum_jax.models.layers.tap import Tap, no_tap


class LatentDecoder(nnx.Module):
    """Latents to pixels. Levels are numbered as in the published file, the coarsest first."""

    def __init__(self, config: PixelVaeConfig, *, rngs: nnx.Rngs):
        widths, groups = config.widths[::-1], config.norm_groups
        self.post_quant_conv = Conv(config.latent_channels, config.latent_channels, 1, rngs=rngs)
        self.conv_in = Conv(config.latent_channels, widths[0], 3, rngs=rngs, padding=SAME)
        self.mid = Middle(widths[0], rngs=rngs, num_groups=groups, matrices=True)
        self.up = nnx.List(
            Level([i] + [o] * (config.layers_per_block + 1), up=level < len(widths) - 1, rngs=rngs,
                  num_groups=groups)
            for level, (i, o) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.norm_out = GroupNorm(widths[-1], NORM_EPS, rngs=rngs, num_groups=groups)
        self.conv_out = Conv(widths[-1], config.out_channels, 3, rngs=rngs, padding=SAME)
        self.scaling_factor = config.scaling_factor

    def __call__(self, latent: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """Pixels, nominally in [-1, 1] and not clipped.

        Args:
          latent: scaled latents [B, h, w, z]; computed in their dtype.
          tap: called with "post_quant_conv", "conv_in", "mid_block", and "up" after each level.

        Returns:
          [B, 8 h, 8 w, 3] with the published sizes.
        """
        def look(name: str, x: jax.Array) -> jax.Array:
            tap(name, x)
            return x

        x = look("post_quant_conv", self.post_quant_conv(latent / self.scaling_factor))
        x = look("mid_block", self.mid(look("conv_in", self.conv_in(x))))
        for level in self.up:
            x = look("up", level(x))
        return self.conv_out(jax.nn.silu(self.norm_out(x)))


class PixelDecoder(nnx.Module):
    """Both networks; `families/blip3o` has the sampler."""

    def __init__(self, config: PixelDecoderConfig, *, rngs: nnx.Rngs):
        self.unet = UNet(config.unet, rngs=rngs)
        self.vae = LatentDecoder(config.vae, rngs=rngs)
        self.config = config
