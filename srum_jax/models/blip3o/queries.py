"""Image queries: learned inputs of the language model whose last states condition the diffusion transformer.

B rows · S tokens · Q queries · D width
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.decoder import Decoder, DecoderLayer
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.logical_axes import ROWS, TOKENS, constrain
from srum_jax.models.layers.parameter import parameter
from srum_jax.models.layers.rope import RotaryAngles
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.models.layers.token_stream import causal_tokens, concatenate, earlier_tokens

_Streams = tuple[jax.Array, jax.Array]  # prompts [B, S - Q, D], queries [B, Q, D]


class ImageQueries(nnx.Module):
    """The learned vectors. They begin standard normal."""

    def __init__(self, num_queries: int, width: int, *, rngs: nnx.Rngs):
        self.vectors = parameter(
            jax.nn.initializers.normal(1.0), (1, num_queries, width), ("small_in", "small_in", "small_out"), rngs=rngs,
        )

    def states(
        self, llm: Decoder, ids: jax.Array, real: jax.Array, first: jax.Array,
        angles: Callable[[jax.Array], RotaryAngles], compute: ComputeConfig,
        tap: Tap = no_tap,
    ) -> jax.Array:
        """The language model's states at the queries, [B, Q, D].

        Prompts and queries pass through its layers side by side, as two streams. No token of a prompt sees a query, so
        where the language model is frozen nothing is computed backwards through prompts.

        Args:
          llm: the language model.
          ids: int32 [B, S], with the queries' places; what lies behind these is not looked at.
          real: bool [B, S].
          first: int32 [B], place of the first query.
          angles: of positions int32 [B, T], which count from the row's first token, whatever it holds.
          compute: precision, attention route, remat.
          tap: called with "embed", and "layer" after each layer, and the states at all places [B, S, D].
        """
        count = self.vectors.shape[1]
        longest = ids.shape[1] - count
        places = first[:, None] + jnp.arange(count)[None]
        prompt = real[:, :longest] & (jnp.arange(longest)[None] < first[:, None])
        prompt_tokens, query_tokens = causal_tokens(prompt), causal_tokens(jnp.take_along_axis(real, places, axis=1))
        prompt_angles = angles(jnp.broadcast_to(jnp.arange(longest), prompt.shape))
        query_angles = angles(places)
        of_prompts = make_attention(prompt_tokens, prompt_tokens, compute.attention, compute.attention_block)
        # So few queries see all tokens at once by any route.
        of_queries = make_attention(query_tokens, concatenate([earlier_tokens(prompt), query_tokens]), "dense",
                                    compute.attention_block)

        def layer(layer: DecoderLayer, streams: _Streams) -> _Streams:
            prompts, queries = streams
            query, key, value = layer.attention_inputs(prompts, prompt_angles)
            own_query, own_key, own_value = layer.attention_inputs(queries, query_angles)
            attended = of_queries(own_query, jnp.concatenate([key, own_key], axis=1),
                                  jnp.concatenate([value, own_value], axis=1))
            return (layer.after_attention(prompts, of_prompts(query, key, value)),
                    layer.after_attention(queries, attended))

        def look(name: str, streams: _Streams) -> None:
            prompts, queries = streams
            room = jnp.pad(prompts, ((0, 0), (0, count), (0, 0)))
            tap(name, room.at[jnp.arange(len(room))[:, None], places].set(queries))

        vectors = jnp.broadcast_to(self.vectors[...].astype(compute.compute_dtype),
                                   (len(ids), *self.vectors.shape[1:]))
        streams = (constrain(llm.embed(ids[:, :longest], compute.compute_dtype), ROWS, TOKENS),
                   constrain(vectors, ROWS, TOKENS))
        if tap is not no_tap:
            look("embed", streams)
        _, queries = run_layers(llm.layers, layer, streams, num_layers=llm.config.num_layers, compute=compute,
                                after_each=None if tap is no_tap else lambda streams: look("layer", streams))
        return llm.norm(queries)
