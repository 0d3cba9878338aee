"""Between pixels and latent tokens, by the autoencoder. Always float32: it is a small part of the work.

N images of one size · H, W pixels · h, w latent cells · G = rows * columns latent tokens · P values of a token
"""

import jax
import jax.numpy as jnp

from srum_jax.inference.programs import row_by_row
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.vae import Autoencoder
from srum_jax.models.layers.patchify import patchify, unpatchify

_NO_VARIANCE = -30.0  # its logarithm: a standard deviation of 3e-7


def encode_images(vae: Autoencoder, images: jax.Array, noise: jax.Array, config: BagelConfig) -> jax.Array:
    """Samples latents.

    Args:
      vae: the autoencoder.
      images: float32 [N, H, W, 3] in [-1, 1]; sides are multiples of `config.latent_stride`.
      noise: float32 [N, h, w, z], standard normal, of the posterior.
      config: of the model.

    Returns:
      float32 [N, G, P].
    """
    # One after another on every device: at 1024 pixels the activations of one are gigabytes.
    return row_by_row(
        lambda image, noise: patchify(vae.sample(vae.posterior(image), noise), config.latent_patch_size), images, noise
    )


def decode_latents(vae: Autoencoder, latent: jax.Array, rows: int, columns: int, config: BagelConfig) -> jax.Array:
    """Pixels, nominally in [-1, 1] and not clipped, float32 [N, H, W, 3].

    Args:
      vae: the autoencoder.
      latent: float32 [N, G, P].
      rows, columns: latent tokens along the sides.
      config: of the model.
    """
    return row_by_row(lambda tokens: vae.decode(unpatchify(tokens, rows, columns, config.latent_patch_size)), latent)


def sure_moments(vae: Autoencoder, latent: jax.Array, rows: int, columns: int, config: BagelConfig) -> jax.Array:
    """Latents as a posterior that has no spread to speak of: to draw from it gives them back, up to float16.

    So what was sampled is learnt as it was sampled, where the encoder would make other latents of its pixels.

    Args:
      vae, latent, rows, columns, config: as for `decode_latents`.

    Returns:
      float16 [N, h, w, 2 z], means and logarithms of the variance.
    """
    mean = unpatchify(latent, rows, columns, config.latent_patch_size) / vae.scale_factor + vae.shift_factor
    return jnp.concatenate([mean, jnp.full_like(mean, _NO_VARIANCE)], axis=-1).astype(jnp.float16)


def to_uint8(images: jax.Array) -> jax.Array:
    """Pixels in [-1, 1] to 0 .. 255: clipped, then truncated."""
    return (jnp.clip(images * 0.5 + 0.5, 0.0, 1.0) * 255.0).astype(jnp.uint8)


def posterior_noise(keys: jax.Array, height: int, width: int, config: BagelConfig) -> jax.Array:
    """Standard normal values for the posterior of images of one size, float32 [N, h, w, z]; one key per image."""
    cells = (height // config.vae.downsample, width // config.vae.downsample, config.vae.z_channels)
    return jax.vmap(lambda key: jax.random.normal(key, cells))(keys)


def initial_noise(keys: jax.Array, num_tokens: int, config: BagelConfig) -> jax.Array:
    """Where sampling starts, float32 [N, `num_tokens`, P]; one key per image.

    A token's values depend on its key and place only, not on `num_tokens`.
    """
    most = config.max_latent_size**2
    return jax.vmap(lambda key: jax.random.normal(key, (most, config.latent_values))[:num_tokens])(keys)
