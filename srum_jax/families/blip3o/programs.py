"""What a BLIP3o can be asked to compute."""

import jax
import jax.numpy as jnp

from srum_jax.families.blip3o.flow_sampling import draw_features, feature_step
from srum_jax.families.blip3o.pixel_sampling import decoded_pixels, draw_latents
from srum_jax.families.blip3o.sampler import FeatureSampler, PixelSampler
from srum_jax.inference.cached_decoder import read, text_continuation
from srum_jax.inference.context import Context, empty_context
from srum_jax.inference.programs import Program, row_by_row
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText, decode_text
from srum_jax.models.blip3o.model import Blip3o
from srum_jax.models.blip3o.patches import Pictures
from srum_jax.models.blip3o.positions import mrope_angles
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.token_stream import causal_tokens

_PIXEL_NOISE = 1  # folded into the key of a picture, which features are drawn with as it is


def _query_states(
    model: Blip3o, compute: ComputeConfig, ids: jax.Array, real: jax.Array, first_query: jax.Array
) -> jax.Array:
    return model.query_states(ids, real, first_query, compute)


def _draw_features(
    model: Blip3o, compute: ComputeConfig, condition: jax.Array, keys: jax.Array, sampler: FeatureSampler
) -> jax.Array:
    return draw_features(model.dit, _feature_noise(model, compute, keys), condition, sampler, compute)


def _feature_noise(model: Blip3o, compute: ComputeConfig, keys: jax.Array) -> jax.Array:
    config = model.config.dit
    return jax.vmap(lambda key: jax.random.normal(key, (config.grid, config.grid, config.channels)))(keys)


def _feature_step(model: Blip3o, compute: ComputeConfig, *arguments) -> tuple[jax.Array, jax.Array]:
    return feature_step(model.dit, *arguments, compute)


def _draw_latents(
    model: Blip3o, compute: ComputeConfig, features: jax.Array, negative: jax.Array, keys: jax.Array,
    size: tuple[int, int], sampler: PixelSampler,
) -> jax.Array:
    vae = model.config.pixels.vae
    shape = (*(side // vae.stride for side in size), vae.latent_channels)
    noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, _PIXEL_NOISE), shape))(keys)
    features, negative = (x.reshape(len(x), -1, x.shape[-1]) for x in (features, negative))
    return draw_latents(model.decoder, noise, features, negative, sampler, compute)


def _decode_pixels(model: Blip3o, compute: ComputeConfig, latent: jax.Array) -> tuple[jax.Array, jax.Array]:
    # One after another on every device: at 1024 pixels the activations of one are gigabytes.
    pixels = row_by_row(lambda latent: decoded_pixels(model.decoder.vae, latent, compute), latent)
    return jnp.round(pixels * 255).astype(jnp.uint8), jnp.isfinite(pixels).all()


def _prefill(
    model: Blip3o, compute: ComputeConfig, ids: jax.Array, real: jax.Array, position: jax.Array, following: jax.Array,
    pictures: Pictures | None,
) -> Context:
    context = empty_context(model.config.llm, len(ids), 0, compute.compute_dtype)
    _, written = read(model.llm, model.embed_conversation(ids, pictures, compute), causal_tokens(real),
                      mrope_angles(jnp.moveaxis(position, -1, 0), model.config.llm), context, compute)
    return context.with_room(ids.shape[1]).append(written, real, following)


def _write_text(
    model: Blip3o, compute: ComputeConfig, context: Context, start: int, keys: jax.Array, active: jax.Array,
    sampler: TextSampler,
) -> DecodedText:
    return decode_text(text_continuation(model.llm, model.angles, compute), context.with_room(sampler.max_tokens), keys,
                       active, sampler, start=start, end=model.config.special_tokens.turn_end)


# ids [B, S], real [B, S], first_query [B] -> what conditions the features, [B, Q, D]; see `Blip3o.query_states`
QUERY_STATES = Program(_query_states, rows=(0, 1, 2))
# condition [B, Q, D], keys [B], FeatureSampler -> features float32 [B, G, G, C]
DRAW_FEATURES = Program(_draw_features, rows=(0, 1), static=(2,))
# keys [B] -> features float32 [B, G, G, C] of noise
FEATURE_NOISE = Program(_feature_noise, rows=(0,))
# features [B, G, G, C], condition [B, Q, D], FeatureStep, FeatureSampler -> the features after the step, and those that
# it had in view; see `flow_sampling.feature_step`
FEATURE_STEP = Program(_feature_step, rows=(0, 1), donated=(0,), static=(3,))
# features [B, G, G, C], negative [1, G, G, C], keys [B], (height, width) in pixels, PixelSampler -> scaled latents
# float32 [B, h, w, 4]
DRAW_LATENTS = Program(_draw_latents, rows=(0, 2), static=(3, 4))
# latents float32 [B, h, w, 4] -> uint8 [B, H, W, 3], and whether all pixels were numbers, bool
DECODE_PIXELS = Program(_decode_pixels, rows=(0,))
# ids [B, S], real [B, S], position int32 [B, S, 3], following [B], Pictures of B * k rows or None -> Context
PREFILL = Program(_prefill, rows=(0, 1, 2, 3, 4))
# context, token that is fed first, keys [B], active [B], TextSampler -> DecodedText; the context is kept
WRITE_TEXT = Program(_write_text, rows=(2, 3), static=(1, 4))
