"""From a packed batch to the loss: encode images, walk the flow path, run the model, weigh the errors.

B rows · M images in a row · H, W pixels · h, w latent cells · P values of a latent token · C latent tokens
"""

import dataclasses

import jax
import jax.numpy as jnp

from srum_jax.models.bagel.batch import PackedBatch, StepNoise
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.model import Bagel, TrainingOutput
from srum_jax.models.bagel.vae import Autoencoder, Posterior
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS, constrain
from srum_jax.models.layers.patchify import patchify
from srum_jax.objectives.config import ObjectiveConfig
from srum_jax.objectives.flow_path import interpolate, timestep_from_logit
from srum_jax.objectives.reward_weighted import TokenErrors, reward_weight, reward_weighted_terms, velocity_errors
from srum_jax.objectives.weighted_sum import WeightedSum

_TIME_BINS = 4


def draw_noise(key: jax.Array, batch: PackedBatch, config: BagelConfig) -> StepNoise:
    """Every random number of one step, the same on any mesh.

    Args:
      key: of this step and, under accumulation, this micro-batch.
      batch: for its shapes.
      config: of the model.
    """
    flow, posterior, reference = jax.random.split(key, 3)
    if batch.posterior_moments is None:
        rows, images, height, width = batch.images.shape[:4]
        cells = (rows, images, height // config.vae.downsample, width // config.vae.downsample, config.vae.z_channels)
    else:
        cells = (*batch.posterior_moments.shape[:4], config.vae.z_channels)  # the same as of pixels, and so the noise
    return StepNoise(
        flow=jax.random.normal(flow, (*batch.latent.sample.shape, config.latent_values)),
        posterior=jax.random.normal(posterior, cells),
        reference_posterior=jax.random.normal(reference, cells),
    )


def loss_weights(batch: PackedBatch, objective: ObjectiveConfig) -> dict[str, jax.Array]:
    """The denominators of the means: latent tokens and predicted texts of this batch.

    They depend on the batch alone, so the denominators of a whole accumulated step are known before its first
    micro-batch has run; float32 [] each.
    """
    return {
        "velocity": jnp.sum(batch.loss_mask, dtype=jnp.float32),
        "text": jnp.sum(_text_weights(batch, objective)),
    }


def training_loss(
    model: Bagel,
    batch: PackedBatch,
    noise: StepNoise,
    *,
    objective: ObjectiveConfig,
    compute: ComputeConfig,
    weights: dict[str, jax.Array],
    reward_limits: tuple[float, float] = (-1.0, 1.0),
    tap=None,
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """This batch's share of the step's loss, and what is worth logging.

    Args:
      model: with its autoencoder.
      batch: one batch, or one of the micro-batches of a step.
      noise: of this batch.
      objective: coefficients.
      compute: precision, attention route, remat.
      weights: denominators of the *whole step*, see `loss_weights`; shares of micro-batches then simply add up.
      reward_limits: ends of the range of R, for the shares that lie at them.
      tap: see `Bagel.__call__`; also called with "latent", "reference_latent", "timestep", "noisy_latent", "velocity",
        "text_loss".

    Returns:
      The loss, float32 [], and sums with their weights by metric name.
    """
    latent, reference_latent = latents(model.vae, batch, noise, model.config, compute)
    if tap is not None:
        tap("latent", latent)
        tap("reference_latent", reference_latent)
    return loss_of_latents(
        model, batch, noise, latent, reference_latent, objective=objective, compute=compute, weights=weights,
        reward_limits=reward_limits, tap=tap,
    )


def loss_of_latents(
    model: Bagel,
    batch: PackedBatch,
    noise: StepNoise,
    latent: jax.Array,
    reference_latent: jax.Array,
    *,
    objective: ObjectiveConfig,
    compute: ComputeConfig,
    weights: dict[str, jax.Array],
    reward_limits: tuple[float, float] = (-1.0, 1.0),
    tap=None,
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """`training_loss` for images that have been encoded already; the model needs no autoencoder.

    Args:
      latent, reference_latent: float32 [B, C, P], in the order of the latent buffer.
      model, batch, noise, objective, compute, weights, reward_limits, tap: as for `training_loss`.
    """
    timestep = timestep_from_logit(batch.timestep_logit, model.config.timestep_shift)
    noisy = interpolate(latent, noise.flow, timestep)
    output = model(batch, noisy, timestep, compute, tap)
    errors = velocity_errors(output.velocity, latent, reference_latent, noise.flow)
    mask = batch.loss_mask
    reward, reference = reward_weighted_terms(errors, batch.reward_alpha, batch.reward_map, mask, objective)
    text_loss = _text_loss(output, batch)
    text = WeightedSum.of(text_loss, _text_weights(batch, objective))
    loss = (
        reward.total / jnp.maximum(weights["velocity"], 1.0)
        + objective.reference_coefficient * reference.total / jnp.maximum(weights["velocity"], 1.0)
        + objective.text_coefficient * text.total / jnp.where(weights["text"] > 0, weights["text"], 1.0)
    )
    if tap is not None:
        tap("timestep", timestep)
        tap("noisy_latent", noisy)
        tap("velocity", output.velocity)
        tap("text_loss", text_loss)
    metrics = {"loss/reward": reward, "loss/reference": reference, "loss/text": text}
    metrics |= _loss_by_time(errors, timestep, mask)
    metrics |= _reward_statistics(batch, mask, objective, reward_limits)
    return loss, metrics | _token_counts(batch)


def latents(
    vae: Autoencoder, batch: PackedBatch, noise: StepNoise, config: BagelConfig, compute: ComputeConfig
) -> tuple[jax.Array, jax.Array]:
    """Encodes the batch's images, or takes the posteriors that it brings instead of them; without gradient.

    The reference is the same image under another draw of the posterior, unless the batch brings its own.

    Returns:
      Latent tokens of the images and of the references, float32 [B, C, P] each, in the order of the latent buffer.
    """
    if batch.posterior_moments is None:
        posterior = encode(vae, batch.images, batch.image_size, compute)
    else:
        posterior = Posterior(*jnp.split(batch.posterior_moments.astype(jnp.float32), 2, axis=-1))
    reference = posterior
    if batch.reference_images is not None:
        reference = encode(vae, batch.reference_images, batch.image_size, compute)
    pairs = ((posterior, noise.posterior), (reference, noise.reference_posterior))
    tokens = []
    for distribution, draw in pairs:
        grid = patchify(vae.sample(distribution, draw), config.latent_patch_size)  # [B, M, h w / p^2, P]
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


def _text_weights(batch: PackedBatch, objective: ObjectiveConfig) -> jax.Array:
    return batch.ce_weights if objective.reweight_text else (batch.ce_weights > 0).astype(jnp.float32)


def _text_loss(output: TrainingOutput, batch: PackedBatch) -> jax.Array:
    """Cross entropy of each prediction, float32 [B, Cc]."""
    if output.text_logits is None:
        return jnp.zeros(batch.ce_index.shape, jnp.float32)
    chosen = jnp.take_along_axis(output.text_logits, batch.ce_labels[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(output.text_logits, axis=-1) - chosen


def _loss_by_time(errors: TokenErrors, timestep: jax.Array, mask: jax.Array) -> dict[str, WeightedSum]:
    """The plain velocity error in each quarter of t."""
    quarter = jnp.clip(jnp.floor(timestep * _TIME_BINS), 0, _TIME_BINS - 1)
    return {f"loss_by_time/q{i}": WeightedSum.of(errors.image, mask & (quarter == i)) for i in range(_TIME_BINS)}


def _reward_statistics(
    batch: PackedBatch, mask: jax.Array, objective: ObjectiveConfig, limits: tuple[float, float]
) -> dict[str, WeightedSum]:
    reward_map = batch.reward_map
    factor = reward_weight(batch.reward_alpha, reward_map, objective) + objective.reference_coefficient
    values = {
        "alpha_mean": batch.reward_alpha,
        "map_mean": reward_map,
        "map_square": jnp.square(reward_map),
        "share_at_low": reward_map <= limits[0],
        "share_at_high": reward_map >= limits[1],
        "share_negative_factor": factor < 0,
    }
    return {f"reward/{name}": WeightedSum.of(value, mask) for name, value in values.items()}


def _token_counts(batch: PackedBatch) -> dict[str, WeightedSum]:
    """Real tokens of each buffer over all its slots, and padding over the slots of all buffers."""
    streams = {name: getattr(batch, name).real for name in ("text", "vit", "latent")}
    counts = {f"tokens/{name}": WeightedSum.of(real, jnp.ones_like(real)) for name, real in streams.items()}
    padding = [WeightedSum.of(~real, jnp.ones_like(real)) for real in streams.values()]
    return counts | {"tokens/padding": padding[0] + padding[1] + padding[2]}


def with_reward(batch: PackedBatch, alpha: jax.Array, reward_map: jax.Array) -> PackedBatch:
    """The same batch under another reward; both float32 [B, C]."""
    return dataclasses.replace(batch, reward_alpha=alpha, reward_map=reward_map)
