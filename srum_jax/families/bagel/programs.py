"""What a BAGEL can be asked to compute. Contexts are donated where one is returned: use that instead."""

import jax
import jax.numpy as jnp

from srum_jax.errors import Failure
from srum_jax.families.bagel.flow_sampling import LatentLayout, flow_step, sample_latents
from srum_jax.families.bagel.image_codec import (
    decode_latents,
    encode_images,
    initial_noise,
    posterior_noise,
    sure_moments,
    to_uint8,
)
from srum_jax.families.bagel.prefill import latent_chunk, patch_chunk, text_chunk
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.families.bagel.scoring import flow_errors, text_log_probs
from srum_jax.families.bagel.text_writing import begin_writing, write_on, write_text
from srum_jax.inference.context import Context, empty_context
from srum_jax.inference.programs import Program
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig

# A program that does not hand out the hidden states of a prefill need not compute the last of them.


def _empty_context(model: Bagel, compute: ComputeConfig, rows: int, capacity: int) -> Context:
    return empty_context(model.config.llm, rows, capacity, compute.compute_dtype)


def _grow(model: Bagel, compute: ComputeConfig, context: Context, slots: int) -> Context:
    return context.with_room(slots)


def _prefill_text(model: Bagel, compute: ComputeConfig, context: Context, *chunk: jax.Array) -> Context:
    return text_chunk(model, compute, context, *chunk).added(model, context, compute)[0]


def _prefill_patches(model: Bagel, compute: ComputeConfig, context: Context, *chunk: jax.Array) -> Context:
    return patch_chunk(model, compute, context, *chunk).added(model, context, compute)[0]


def _prefill_latents(model: Bagel, compute: ComputeConfig, context: Context, *chunk: jax.Array) -> Context:
    return latent_chunk(model, compute, context, *chunk).added(model, context, compute)[0]


def _sample_latents(
    model: Bagel, compute: ComputeConfig, contexts: list[Context], keys: jax.Array, layout: LatentLayout,
    sampler: FlowSampler,
) -> jax.Array:
    noise = initial_noise(keys, layout.position_ids.shape[1], model.config)
    return sample_latents(model, contexts, noise, layout, sampler, compute)[0]


def _noise(model: Bagel, compute: ComputeConfig, keys: jax.Array, layout: LatentLayout) -> jax.Array:
    return jnp.where(layout.real[..., None], initial_noise(keys, layout.position_ids.shape[1], model.config), 0.0)


def _encode_images(model: Bagel, compute: ComputeConfig, images: jax.Array, keys: jax.Array) -> jax.Array:
    return encode_images(model.vae, images, posterior_noise(keys, *images.shape[1:3], model.config), model.config)


def _decode_images(
    model: Bagel, compute: ComputeConfig, latent: jax.Array, rows: int, columns: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    pixels = decode_latents(model.vae, latent, rows, columns, model.config)
    return to_uint8(pixels), sure_moments(model.vae, latent, rows, columns, model.config), jnp.isfinite(pixels).all()


# rows, capacity -> a context
EMPTY_CONTEXT = Program(_empty_context, static=(0, 1))
# context, slots -> the same with more free slots
GROW = Program(_grow, static=(1,))
# context, token_ids [B, T], num_tokens [B] -> context; see `prefill.text_chunk`
PREFILL_TEXT = Program(_prefill_text, rows=(1, 2), donated=(0,))
# context, patches [B, V, values], position_ids [B, V], num_patches [B] -> context; see `prefill.patch_chunk`
PREFILL_PATCHES = Program(_prefill_patches, rows=(1, 2, 3), donated=(0,))
# context, latent [B, G, P], position_ids [B, G], num_latents [B] -> context; see `prefill.latent_chunk`
PREFILL_LATENTS = Program(_prefill_latents, rows=(1, 2, 3), donated=(0,))
# context, keys [B], active [B], TextSampler -> DecodedText; the context is kept
WRITE_TEXT = Program(write_text, rows=(1, 2), static=(3,))
# context, active [B], TextSampler -> Decoding; the context is kept
BEGIN_TEXT = Program(begin_writing, rows=(1,), static=(2,))
# Decoding, keys [B], tokens until which to write int32 [], TextSampler -> Decoding; see `text_writing.write_on`
WRITE_ON = Program(write_on, rows=(1,), donated=(0,), static=(3,))
# contexts, keys [B], LatentLayout, FlowSampler -> latents float32 [B, G, P]; noise is drawn with one key per row
SAMPLE_LATENTS = Program(_sample_latents, rows=(1, 2), static=(3,))
# keys [B], LatentLayout -> latents float32 [B, G, P] of noise
NOISE = Program(_noise, rows=(0, 1))
# contexts, latents [B, G, P], LatentLayout, t and dt float32 [], FlowSampler -> the latents after the step, and those
# that it had in view; see `flow_sampling.flow_step`
SAMPLE_STEP = Program(flow_step, rows=(1, 2), donated=(1,), static=(5,))
# context, token_ids [B, T], num_tokens [B] -> float32 [B, T]; see `scoring.text_log_probs`; the context is kept
SCORE_TEXT = Program(text_log_probs, rows=(1, 2))
# context, latent [B, G, P], keys [B], times [B, K], LatentLayout -> float32 [B, K]; see `scoring.flow_errors`
FLOW_ERRORS = Program(flow_errors, rows=(1, 2, 3, 4))
# images float32 [N, H, W, 3], keys [N] -> latents float32 [N, G, P]; posterior noise is drawn with one key per image
ENCODE_IMAGES = Program(_encode_images, rows=(0, 1))
# latent float32 [N, rows * columns, P], rows, columns -> uint8 [N, H, W, 3], `sure_moments`, and whether all pixels
# were numbers, bool
DECODE_IMAGES = Program(_decode_images, rows=(0,), static=(1, 2))


def finite_pixels(decoded: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Pixels and moments as `DECODE_IMAGES` returns them.

    Raises:
      Failure: one is not a number, of which uint8 would keep no trace.
    """
    *found, finite = decoded
    if not finite:
        raise Failure("The decoded pixels are not finite: expected numbers; the autoencoder's weights are "
                             "damaged, or the latents too large.")
    return tuple(found)
