"""The FLUX-style autoencoder. Images and latents are [B, H, W, C].

Attribute names follow the stored tensors' names.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.bagel.config import AutoencoderConfig
from srum_jax.models.layers.autoencoder_blocks import NORM_EPS, SAME, Level, Middle
from srum_jax.models.layers.linear import Conv
from srum_jax.models.layers.norm import GroupNorm
from srum_jax.models.layers.tap import Tap, no_tap


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posterior:
    """The encoder's normal distribution over latents, before scale and shift. float32 [B, h, w, z]."""

    mean: jax.Array
    logvar: jax.Array


class Encoder(nnx.Module):
    """Pixels to the parameters of the posterior."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths = [config.ch * multiple for multiple in config.ch_mult]
        inputs = [config.ch, *widths[:-1]]
        self.conv_in = Conv(config.in_channels, config.ch, 3, rngs=rngs, padding=SAME)
        self.down = nnx.List(
            Level([i] + [o] * config.num_res_blocks, down=level < len(widths) - 1, rngs=rngs)
            for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )
        self.mid = Middle(widths[-1], rngs=rngs)
        self.norm_out = GroupNorm(widths[-1], NORM_EPS, rngs=rngs)
        self.conv_out = Conv(widths[-1], 2 * config.z_channels, 3, rngs=rngs, padding=SAME)

    def __call__(self, x: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """[B, H, W, 3] to [B, H/8, W/8, 2 z]."""
        x = self.conv_in(x)
        tap("conv_in", x)
        for level in self.down:
            x = level(x)
        x = self.mid(x, tap)
        return self.conv_out(jax.nn.silu(self.norm_out(x)))


class ImageDecoder(nnx.Module):
    """Latents to pixels. Levels are numbered as in the encoder and run from the last to the first."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths = [config.ch * multiple for multiple in config.ch_mult]
        inputs = [*widths[1:], widths[-1]]
        self.conv_in = Conv(config.z_channels, widths[-1], 3, rngs=rngs, padding=SAME)
        self.mid = Middle(widths[-1], rngs=rngs)
        self.up = nnx.List(
            Level([i] + [o] * (config.num_res_blocks + 1), up=level > 0, rngs=rngs)
            for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )
        self.norm_out = GroupNorm(widths[0], NORM_EPS, rngs=rngs)
        self.conv_out = Conv(widths[0], config.out_ch, 3, rngs=rngs, padding=SAME)

    def __call__(self, z: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """[B, h, w, z] to [B, 8 h, 8 w, 3]."""
        x = self.conv_in(z)
        tap("conv_in", x)
        x = self.mid(x, tap)
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(jax.nn.silu(self.norm_out(x)))


class Autoencoder(nnx.Module):
    """Images to latents and back."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = ImageDecoder(config, rngs=rngs)
        self.scale_factor, self.shift_factor = config.scale_factor, config.shift_factor

    def posterior(self, images: jax.Array, tap: Tap = no_tap) -> Posterior:
        """The distribution of latents of pixels in [-1, 1], [B, H, W, 3]; parameters in float32."""
        mean, logvar = jnp.split(self.encoder(images, tap).astype(jnp.float32), 2, axis=-1)
        return Posterior(mean, logvar)

    def sample(self, posterior: Posterior, noise: jax.Array) -> jax.Array:
        """Latents `scale * (mean + std * noise - shift)`, float32 [B, h, w, z]."""
        latent = posterior.mean + jnp.exp(0.5 * posterior.logvar) * noise
        return self.scale_factor * (latent - self.shift_factor)

    def decode(self, latent: jax.Array, tap: Tap = no_tap) -> jax.Array:
        """Pixels, nominally in [-1, 1] and not clipped, of scaled latents [B, h, w, z]."""
        return self.decoder(latent / self.scale_factor + self.shift_factor, tap)
