"""The language model over new tokens that also see a context.

B rows · T new tokens · S slots of the context · K key/value heads · H head width
"""

import jax

from srum_jax.inference.cached_decoder import read as read_tokens
from srum_jax.inference.context import Context, KeyValues
from srum_jax.inference.text_decoding import NextLogits
from srum_jax.models.blip3o.positions import alike, mrope_angles
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.decoder import Decoder
from srum_jax.models.layers.token_stream import causal_tokens


def read(
    llm: Decoder, x: jax.Array, real: jax.Array, position: jax.Array, context: Context, compute: ComputeConfig
) -> tuple[jax.Array, KeyValues]:
    """All layers over new tokens, which see the context and those before them. The context is not changed.

    Args:
      llm: the language model.
      x: its inputs, [B, T, D] in the compute dtype.
      real: bool [B, T]; padding may lie on either side.
      position: int32 [3, B, T]: time, row, column.
      context: what comes before.
      compute: precision and attention route.

    Returns:
      States after the final norm [B, T, D], and the new tokens' keys and values [L, B, T, K, H].
    """
    return read_tokens(llm, x, causal_tokens(real), mrope_angles(position, llm.config), context, compute)


def text_continuation(llm: Decoder, compute: ComputeConfig) -> NextLogits:
    """For `decode_text`: feeds a token to every row and scores the next; all its three positions are alike."""

    def next_logits(context: Context, token: jax.Array, count: jax.Array) -> tuple[jax.Array, Context]:
        real, position = count[:, None] > 0, alike(context.next_position[:, None])
        hidden, written = read(
            llm, llm.embed(token[:, None], compute.compute_dtype), real, position, context, compute
        )
        return llm.logits(hidden[:, 0]), context.append(written, real, count)

    return next_logits
