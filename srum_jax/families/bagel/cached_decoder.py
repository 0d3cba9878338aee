"""The language model over new tokens that also see a context.

B rows · U und tokens · G gen tokens · T = U + G · S slots of the context · K key/value heads · H head width
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.inference.context import Context, KeyValues
from srum_jax.models.bagel.decoder import Decoder, Hidden, MixtureLayer, Rotary
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.quantized import cast_floats
from srum_jax.models.layers.tap import no_tap
from srum_jax.models.layers.token_stream import TokenStream, concatenate

# The inputs of new tokens -> their last hidden states after the final norms, their keys and values [L, B, T, K, H], and
# what was watched, with a leading axis of layers.
Reader = Callable[[Hidden], tuple[Hidden, KeyValues, Any]]
# Of one layer, and the stream that enters its MLPs: what is to be kept of it.
Watch = Callable[[MixtureLayer, Hidden], Any]


def causal_tokens(num_tokens: jax.Array, width: int, first_position: jax.Array) -> TokenStream:
    """A run of text: each token sees those before it.

    Args:
      num_tokens: int32 [B], tokens of each row; the rest of the width is padding.
      width: T.
      first_position: int32 [B], rotary position of the first token; the others follow on.
    """
    place = jnp.broadcast_to(jnp.arange(width), (num_tokens.shape[0], width))
    return _tokens(place < num_tokens[:, None], place, first_position[:, None] + place, full=False)


def image_tokens(real: jax.Array, position: jax.Array) -> TokenStream:
    """An image with its markers: all see each other, and share one rotary position.

    Args:
      real: bool [B, T].
      position: int32 [B].
    """
    place = jnp.broadcast_to(jnp.arange(real.shape[1]), real.shape)
    return _tokens(real, place, jnp.broadcast_to(position[:, None], real.shape), full=True)


def _tokens(real: jax.Array, order: jax.Array, position: jax.Array, full: bool) -> TokenStream:
    number, zeros = jnp.where(real, 0, -1), jnp.zeros_like(order)
    return TokenStream(sample=number, split=number, order=order, full=zeros + int(full), noise=zeros,
                       position=position)


def make_reader(
    llm: Decoder, query: TokenStream, num_und: int, context: Context, compute: ComputeConfig,
    watch: Watch | None = None,
) -> Reader:
    """All layers over new tokens, which see the context and each other. The context is not changed.

    What every layer, and every step that reads the same context, has in common is computed here, once.

    Args:
      llm: the language model.
      query: the new tokens, und first; fields [B, T].
      num_und: how many of them are und tokens.
      context: what they see besides each other.
      compute: precision and attention route.
      watch: what is kept of each layer besides; its values are computed with the layer's, and nothing else of it stays.
    """
    rotary = Rotary.of(query.position, num_und, llm.config)
    # Blocks pay only where there are several.
    route = compute.attention if query.sample.shape[1] >= compute.attention_block else "dense"
    attention = make_attention(query, concatenate([context.keys(), query]), route, compute.attention_block)
    graphdef, stacked = nnx.split(llm.layers)
    stacked = cast_floats(stacked, compute.compute_dtype)

    def one_layer(x: Hidden, inputs: tuple[nnx.State, KeyValues]) -> tuple[Hidden, tuple[KeyValues, Any]]:
        parameters, cached = inputs
        layer: MixtureLayer = nnx.merge(graphdef, parameters)
        query, key, value = layer.attention_inputs(x, rotary)
        attended = attention(
            query, jnp.concatenate([cached.key, key], axis=1), jnp.concatenate([cached.value, value], axis=1)
        )
        watched = []

        def tap(name: str, branch: Hidden) -> None:
            watched.append(watch(layer, Hidden(x.und + branch.und, x.gen + branch.gen)))

        after = layer.after_attention(x, attended, no_tap if watch is None else tap)
        return after, (KeyValues(key, value), watched[0] if watched else None)

    def read(x: Hidden) -> tuple[Hidden, KeyValues, Any]:
        x, (written, watched) = jax.lax.scan(one_layer, x, (stacked, context.cache))
        return Hidden(llm.und_norm(x.und), llm.gen_norm(x.gen)), written, watched

    return read
