"""From a packed batch to token scores: encode images, walk the flow path, run the model, measure the errors.

B rows · M images in a row · H, W pixels · h, w latent cells · P values of a latent token · C latent tokens
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from srum_jax.models.bagel.batch import PackedBatch, StepNoise
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.model import Bagel, TrainingOutput
from srum_jax.models.bagel.vae import Autoencoder, Posterior
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS, TOKENS, constrain
from srum_jax.models.layers.patchify import patchify
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.objectives.flow_path import interpolate, timestep_from_logit, velocity_error
from srum_jax.objectives.token_scores import TokenMasks, TokenScores
from srum_jax.rewards.dual_likelihood import token_log_probs

# Arrays of a batch that go whole to each row's devices; the others are split along their tokens.
_WHOLE = frozenset({"images", "image_size", "reference_images", "posterior_moments", "ce_index", "ce_labels",
                    "ce_weights", "text_columns"})


@dataclasses.dataclass(frozen=True)
class BagelForward:
    """How batches of BAGEL are scored; see `families.family.Forward`."""

    image_error: ClassVar[str] = "flow"

    config: BagelConfig
    compute: ComputeConfig

    def layout(self, batch: PackedBatch) -> PackedBatch:
        """Rows over data and fsdp, tokens of the three buffers over seq; a PartitionSpec for each array."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: PartitionSpec(ROWS) if path[0].name in _WHOLE else PartitionSpec(ROWS, TOKENS), batch
        )

    def masks(self, batch: PackedBatch) -> TokenMasks:
        """Latent tokens that have a time, and texts to be predicted."""
        text_sample = jnp.take_along_axis(jnp.asarray(batch.text.sample), batch.ce_index, axis=1)
        return TokenMasks(
            image=batch.loss_mask,
            image_sample=batch.latent.sample,
            text=batch.ce_weights,
            text_sample=jnp.where(batch.ce_weights > 0, text_sample, -1),
            streams={name: getattr(batch, name).real for name in ("text", "vit", "latent")},
            num_samples=batch.num_samples,
        )

    def draws(self, key: jax.Array, batch: PackedBatch) -> StepNoise:
        """Every random number of one step, the same on any mesh.

        Args:
          key: of this step.
          batch: for its shapes.
        """
        flow, posterior, reference = jax.random.split(key, 3)
        vae = self.config.vae
        if batch.posterior_moments is None:
            rows, images, height, width = batch.images.shape[:4]
            cells = (rows, images, height // vae.downsample, width // vae.downsample, vae.z_channels)
        else:  # the same as of pixels, and so the noise
            cells = (*batch.posterior_moments.shape[:4], vae.z_channels)
        noise = jax.random.normal(flow, (*batch.latent.sample.shape, self.config.latent_values))
        if batch.noise_index is not None:
            noise = jnp.take_along_axis(noise, batch.noise_index[..., None], axis=1)
        return StepNoise(
            flow=noise,
            posterior=jax.random.normal(posterior, cells),
            reference_posterior=jax.random.normal(reference, cells),
        )

    def scores(self, model: Bagel, batch: PackedBatch, draws: StepNoise, *, tap: Tap = no_tap) -> TokenScores:
        """Squared velocity errors of latent tokens, log probabilities of texts.

        Args:
          model: with its autoencoder.
          batch: one batch, or one of the micro-batches of a step.
          draws: of this batch.
          tap: see `Bagel.__call__`; also called with "latent", "reference_latent", "timestep", "noisy_latent",
            "velocity".
        """
        latent, reference_latent = self.latents(model.vae, batch, draws)
        tap("latent", latent)
        tap("reference_latent", reference_latent)
        return self.scores_of_latents(model, batch, draws, latent, reference_latent, tap=tap)

    def scores_of_latents(
        self, model: Bagel, batch: PackedBatch, draws: StepNoise, latent: jax.Array, reference_latent: jax.Array, *,
        tap: Tap = no_tap,
    ) -> TokenScores:
        """`scores` for images that have been encoded already; the model needs no autoencoder.

        Args:
          latent, reference_latent: float32 [B, C, P], in the order of the latent buffer.
          model, batch, draws, tap: as for `scores`.
        """
        timestep = timestep_from_logit(batch.timestep_logit, self.config.timestep_shift)
        noisy = interpolate(latent, draws.flow, timestep)
        output = model(batch, noisy, timestep, self.compute, tap)
        tap("timestep", timestep)
        tap("noisy_latent", noisy)
        tap("velocity", output.velocity)
        return TokenScores(
            image_error=velocity_error(output.velocity, latent, draws.flow),
            reference_error=velocity_error(output.velocity, reference_latent, draws.flow),
            time=timestep,
            text_log_prob=_text_log_prob(output, batch),
        )

    def latents(self, vae: Autoencoder, batch: PackedBatch, draws: StepNoise) -> tuple[jax.Array, jax.Array]:
        """Encodes the batch's images, or takes the posteriors that it brings instead of them; without gradient.

        The reference is the same image under another draw of the posterior, unless the batch brings its own.

        Returns:
          Latent tokens of the images and of the references, float32 [B, C, P] each, in the order of the latent buffer.
        """
        if batch.posterior_moments is None:
            posterior = encode(vae, batch.images, batch.image_size, self.compute)
        else:
            posterior = Posterior(*jnp.split(batch.posterior_moments.astype(jnp.float32), 2, axis=-1))
        reference = posterior
        if batch.reference_images is not None:
            reference = encode(vae, batch.reference_images, batch.image_size, self.compute)
        pairs = ((posterior, draws.posterior), (reference, draws.reference_posterior))
        tokens = []
        for distribution, draw in pairs:
            # [B, M, h w / p^2, P]
            grid = patchify(vae.sample(distribution, draw), self.config.latent_patch_size)
            flat = grid.reshape(grid.shape[0], -1, grid.shape[-1])
            tokens.append(jax.lax.stop_gradient(jnp.take_along_axis(flat, batch.latent_index[..., None], axis=1)))
        return tokens[0], tokens[1]


def encode(vae: Autoencoder, images: jax.Array, size: jax.Array, compute: ComputeConfig) -> Posterior:
    """Posteriors of all images of a row, one image after the other to bound memory; fields [B, M, h, w, z].

    Args:
      vae: the autoencoder.
      images: [B, M, H, W, 3] uint8 pixels, or float32 in [-1, 1].
      size: int32 [B, M, 2], height and width of what is not padding.
      compute: precision.
    """

    def one_image(inputs: tuple[jax.Array, jax.Array]) -> Posterior:
        pixels, size = inputs  # [B, H, W, 3], [B, 2]
        return vae.posterior(constrain(_normalise(pixels, size).astype(compute.compute_dtype), ROWS))

    by_image = (jnp.moveaxis(images, 1, 0), jnp.moveaxis(size, 1, 0))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), jax.lax.map(one_image, by_image))


def _normalise(pixels: jax.Array, size: jax.Array) -> jax.Array:
    """Bytes to [-1, 1]; padding becomes exactly 0, as the autoencoder's statistics see it too."""
    if pixels.dtype != jnp.uint8:
        return pixels
    height, width = pixels.shape[1:3]
    inside = (jnp.arange(height)[None, :, None] < size[:, 0, None, None]) & (
        jnp.arange(width)[None, None, :] < size[:, 1, None, None]
    )
    values = (pixels.astype(jnp.float32) / 255.0 - 0.5) / 0.5
    return jnp.where(inside[..., None], values, 0.0)


def _text_log_prob(output: TrainingOutput, batch: PackedBatch) -> jax.Array:
    """Log probability of each predicted token, float32 [B, Cc]."""
    if output.text_logits is None:
        return jnp.zeros(batch.ce_index.shape, jnp.float32)
    return token_log_probs(output.text_logits, batch.ce_labels)
