"""Drawing pixels from picture features: Euler steps of the U-Net, then the autoencoder.

B rows · N features · C their width · h, w latent cells · H, W pixels
"""

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.families.blip3o.flow_sampling import guided, side_by_side
from srum_jax.families.blip3o.sampler import PixelSampler
from srum_jax.models.blip3o.pixel_decoder import LatentDecoder, PixelDecoder
from srum_jax.models.blip3o.pixel_schedule import pixel_times
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.tap import Tap, no_tap


def predicted_noise(
    decoder: PixelDecoder, latent: jax.Array, sigma: jax.Array, timestep: jax.Array, condition: jax.Array,
    compute: ComputeConfig, tap: Tap = no_tap,
) -> jax.Array:
    """The U-Net's output for pictures that are drawn whole, float32 [B, h, w, 4].

    Args:
      decoder: both networks.
      latent: float32 [B, h, w, 4], with noise of standard deviation `sigma`.
      sigma: float32 [].
      timestep: float32 [].
      condition: [B, N, C].
      compute: precision.
      tap: see `UNet`.
    """
    height, width = (side * decoder.config.vae.stride for side in latent.shape[1:3])
    size = jnp.broadcast_to(jnp.asarray([height, width, 0, 0, height, width], jnp.float32), (len(latent), 6))
    return decoder.unet(latent / jnp.sqrt(sigma**2 + 1), timestep, condition, size, compute, tap)


def draw_latents(
    decoder: PixelDecoder, noise: jax.Array, features: jax.Array, negative: jax.Array, sampler: PixelSampler,
    compute: ComputeConfig,
) -> jax.Array:
    """Scaled latents, float32 [B, h, w, 4].

    Args:
      decoder: both networks.
      noise: float32 [B, h, w, 4], standard normal.
      features: [B, N, C].
      negative: [1 or B, N, C], what guidance goes away from; not looked at where guidance is 1 or less.
      sampler: steps and guidance.
      compute: precision.
    """
    times, guidance = pixel_times(decoder.config.schedule, sampler.num_steps), sampler.guidance
    condition = features
    if guidance > 1:  # features first, unlike where features are drawn
        condition = side_by_side(features, jnp.broadcast_to(negative, features.shape).astype(features.dtype))

    def step(latent: jax.Array, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        timestep, sigma, change = now
        rows = side_by_side(latent, latent) if guidance > 1 else latent
        error = predicted_noise(decoder, rows, sigma, timestep, condition, compute)
        if guidance > 1:
            error = guided(without=error[1::2], conditioned=error[::2], guidance=guidance)
        return latent + change * error, None

    steps = (jnp.asarray(times.timesteps), jnp.asarray(times.sigmas[:-1]), jnp.asarray(np.diff(times.sigmas)))
    return jax.lax.scan(step, noise * times.first_scale, steps)[0]


def decoded_pixels(vae: LatentDecoder, latent: jax.Array, compute: ComputeConfig, tap: Tap = no_tap) -> jax.Array:
    """Pixels in [0, 1] of scaled latents: [B, h, w, 4] to float32 [B, H, W, 3]."""
    pixels = vae(latent.astype(compute.compute_dtype), tap).astype(jnp.float32)
    return jnp.clip(pixels / 2 + 0.5, 0, 1)
