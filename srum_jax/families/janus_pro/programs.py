"""What a Janus-Pro can be asked to compute."""

import jax
import jax.numpy as jnp

from srum_jax.families.janus_pro.code_sampling import Prompts, gumbel_noise, sample_codes
from srum_jax.families.janus_pro.likelihood import answer_log_probs, code_log_probs
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.inference.cached_decoder import read, text_continuation
from srum_jax.inference.context import Context, empty_context
from srum_jax.inference.programs import Program, row_by_row
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText, decode_text
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.models.janus_pro.vq import from_bytes, to_bytes
from srum_jax.models.layers.token_stream import causal_tokens


def _draw_codes(
    model: JanusPro, compute: ComputeConfig, prompts: Prompts, keys: jax.Array, sampler: CodeSampler
) -> tuple[jax.Array, jax.Array]:
    drawn = sample_codes(model, prompts, gumbel_noise(keys, model.config.vq.codebook_size), sampler, compute)
    return drawn.codes, drawn.healthy


def _decode_codes(model: JanusPro, compute: ComputeConfig, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    # One after another on every device: several activations of 75 MB are alive at once.
    pixels = row_by_row(model.vq.decode, codes)
    return to_bytes(pixels), jnp.isfinite(pixels).all()


def _prefill(
    model: JanusPro, compute: ComputeConfig, ids: jax.Array, real: jax.Array, views: jax.Array | None
) -> Context:
    pictures = None if views is None else from_bytes(views)
    tokens = causal_tokens(real)
    context = empty_context(model.config.llm, len(ids), 0, compute.compute_dtype)
    _, written = read(model.llm, model.embed_conversation(ids, pictures, compute), tokens,
                      model.angles(tokens.position), context, compute)
    return context.with_room(ids.shape[1]).append(written, real, jnp.sum(real, axis=1, dtype=jnp.int32))


def _write_text(
    model: JanusPro, compute: ComputeConfig, context: Context, start: int, keys: jax.Array, active: jax.Array,
    sampler: TextSampler,
) -> DecodedText:
    return decode_text(text_continuation(model.llm, model.angles, compute), context.with_room(sampler.max_tokens), keys,
                       active, sampler, start=start, end=model.config.special_tokens.eos)


def _score_codes(model: JanusPro, compute: ComputeConfig, prompts: Prompts, pixels: jax.Array) -> jax.Array:
    codes = row_by_row(lambda pixels: model.vq.encode(from_bytes(pixels)), pixels)
    return code_log_probs(model, prompts.ids, prompts.real, codes, compute)


def _score_text(
    model: JanusPro, compute: ComputeConfig, ids: jax.Array, real: jax.Array, views: jax.Array | None,
    places: jax.Array, answers: jax.Array,
) -> jax.Array:
    pictures = None if views is None else from_bytes(views)
    return answer_log_probs(model, ids, real, pictures, places, answers, compute)


# Prompts, keys [B], CodeSampler -> codes int32 [B, N], and whether all scores of a row were numbers, bool [B]
DRAW_CODES = Program(_draw_codes, rows=(0, 1), static=(2,))
# codes int32 [B, N] -> uint8 [B, H, W, 3], and whether all pixels were numbers, bool
DECODE_CODES = Program(_decode_codes, rows=(0,))
# ids [B, S], real [B, S], views uint8 [B, k, V, V, 3] or None -> Context
PREFILL = Program(_prefill, rows=(0, 1, 2))
# context, token that is fed first, keys [B], active [B], TextSampler -> DecodedText; the context is kept
WRITE_TEXT = Program(_write_text, rows=(2, 3), static=(1, 4))
# Prompts, pixels uint8 [B, H, W, 3] -> log probabilities of the picture's codes, float32 [B, N]
SCORE_CODES = Program(_score_codes, rows=(0, 1))
# ids [B, L], real [B, L], views as above, places [B, A], answers [B, A] -> log probabilities, float32 [B, A]
SCORE_TEXT = Program(_score_text, rows=(0, 1, 2, 3, 4))
