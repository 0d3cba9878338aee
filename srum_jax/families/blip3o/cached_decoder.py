"""The language model over new tokens that also see a context.

B rows · T new tokens · S slots of the context · K key/value heads · H head width
"""

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.inference.context import Context, KeyValues
from srum_jax.inference.text_decoding import NextLogits
from srum_jax.models.blip3o.positions import alike, mrope_angles
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.decoder import Decoder, DecoderLayer
from srum_jax.models.layers.token_stream import causal_tokens, concatenate


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
    tokens = causal_tokens(real)
    rotary = mrope_angles(position, llm.config)
    # Blocks pay only where there are several.
    route = compute.attention if real.shape[1] >= compute.attention_block else "dense"
    attention = make_attention(tokens, concatenate([context.keys(), tokens]), route, compute.attention_block)
    graphdef, stacked = nnx.split(llm.layers)
    stacked = jax.tree.map(lambda leaf: leaf.astype(compute.compute_dtype), stacked)

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


def text_continuation(llm: Decoder, compute: ComputeConfig) -> NextLogits:
    """For `decode_text`: feeds a token to every row and scores the next; all its three positions are alike."""

    def next_logits(context: Context, token: jax.Array, count: jax.Array) -> tuple[jax.Array, Context]:
        real, position = count[:, None] > 0, alike(context.next_position[:, None])
        hidden, written = read(
            llm, llm.embed(token[:, None], compute.compute_dtype), real, position, context, compute
        )
        return llm.logits(hidden[:, 0]), context.append(written, real, count)

    return next_logits
