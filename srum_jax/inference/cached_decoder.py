"""A decoder over new tokens that also see a context, and text that it writes behind one.

B rows · T new tokens · K key/value heads · H head width
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.inference.context import Context, KeyValues
from srum_jax.inference.text_decoding import NextLogits
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.decoder import Decoder, DecoderLayer
from srum_jax.models.layers.quantized import cast_floats
from srum_jax.models.layers.rope import RotaryAngles
from srum_jax.models.layers.token_stream import TokenStream, causal_tokens, concatenate


def read(
    llm: Decoder, x: jax.Array, tokens: TokenStream, rotary: RotaryAngles, context: Context, compute: ComputeConfig
) -> tuple[jax.Array, KeyValues]:
    """All layers over new tokens, which see the context and those before them. The context is not changed.

    Args:
      llm: the language model.
      x: its inputs, [B, T, D] in the compute dtype.
      tokens: of each row one text, padded on either side; see `causal_tokens`.
      rotary: angles of the tokens, those of the context counted.
      context: what comes before.
      compute: precision and attention route.

    Returns:
      States after the final norm [B, T, D], and the new tokens' keys and values [L, B, T, K, H].
    """
    # Blocks pay only where there are several.
    route = compute.attention if x.shape[1] >= compute.attention_block else "dense"
    attention = make_attention(tokens, concatenate([context.keys(), tokens]), route, compute.attention_block)
    graphdef, stacked = nnx.split(llm.layers)
    stacked = cast_floats(stacked, compute.compute_dtype)

    def one_layer(x: jax.Array, inputs: tuple[nnx.State, KeyValues]) -> tuple[jax.Array, KeyValues]:
        parameters, cached = inputs
        layer: DecoderLayer = nnx.merge(graphdef, parameters)
        query, key, value = layer.attention_inputs(x, rotary)
        attended = attention(
            query, jnp.concatenate([cached.key, key], axis=1), jnp.concatenate([cached.value, value], axis=1)
        )
        return layer.after_attention(x, attended), KeyValues(key, value)

    x, written = jax.lax.scan(one_layer, x, (stacked, context.cache))
    return llm.norm(x), written


def text_continuation(
    llm: Decoder, angles: Callable[[jax.Array], RotaryAngles], compute: ComputeConfig
) -> NextLogits:
    """For `decode_text`: feeds a token to every row and scores the next.

    Args:
      llm: the language model.
      angles: rotary angles of positions int32 [B, 1].
      compute: precision and attention route.
    """

    def next_logits(context: Context, token: jax.Array, count: jax.Array) -> tuple[jax.Array, Context]:
        real = count[:, None] > 0
        hidden, written = read(llm, llm.embed(token[:, None], compute.compute_dtype), causal_tokens(real),
                               angles(context.next_position[:, None]), context, compute)
        return llm.logits(hidden[:, 0]), context.append(written, real, count)

    return next_logits
