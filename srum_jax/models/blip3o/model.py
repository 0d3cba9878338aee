"""BLIP3o: Qwen2.5-VL, whose states at learned queries condition a diffusion transformer over picture features.

B rows · S tokens · Q queries · D width of the language model · N pictures · T tokens of a picture
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.dit import DiT
from srum_jax.models.blip3o.eva import EvaTower
from srum_jax.models.blip3o.patches import Pictures
from srum_jax.models.blip3o.pixel_decoder import PixelDecoder
from srum_jax.models.blip3o.positions import alike, mrope_angles
from srum_jax.models.blip3o.queries import ImageQueries
from srum_jax.models.blip3o.vision import VisionTower
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.decoder import Decoder
from srum_jax.models.layers.rope import RotaryAngles
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.models.layers.token_stream import causal_tokens


class Blip3o(nnx.Module):
    """The whole model, or one without some of its optional parts."""

    def __init__(
        self,
        config: Blip3oConfig,
        *,
        rngs: nnx.Rngs,
        parts: Iterable[str] = (),
    ):
        """Makes the parameters.

        Args:
          config: sizes.
          rngs: source of random numbers.
          parts: of "vision" (reads pictures), "eva" (makes features of them), "decoder" (features to pixels).
        """
        wanted = frozenset(parts)
        self.config = config
        self.llm = Decoder(config.llm, rngs=rngs, tied=config.llm.tied)
        self.queries = ImageQueries(config.num_queries, config.llm.hidden_size, rngs=rngs)
        self.dit = DiT(config.dit, rngs=rngs)
        self.vision = VisionTower(config.vision, rngs=rngs) if "vision" in wanted else None
        self.eva = EvaTower(config.eva, rngs=rngs) if "eva" in wanted else None
        drawn = "decoder" in wanted and config.pixels is not None
        self.decoder = PixelDecoder(config.pixels, rngs=rngs) if drawn else None

    def query_states(
        self, ids: jax.Array, real: jax.Array, first_query: jax.Array, compute: ComputeConfig, tap: Tap = no_tap
    ) -> jax.Array:
        """What the language model says of the picture to be drawn, [B, Q, D]; see `ImageQueries.states`.

        Positions are those of a text alone (the reference bypasses the rule for pictures here).
        """
        return self.queries.states(self.llm, ids, real, first_query, self.angles, compute, tap)

    def angles(self, position: jax.Array) -> RotaryAngles:
        """Rotary angles of tokens of texts, whose three positions are alike: int32 [B, S]."""
        return mrope_angles(alike(position), self.config.llm)

    def hidden(
        self, x: jax.Array, real: jax.Array, position: jax.Array, compute: ComputeConfig, tap: Tap = no_tap
    ) -> jax.Array:
        """The language model over embedded tokens, each of which sees those before it.

        Args:
          x: [B, S, D].
          real: bool [B, S]; padding may lie on either side.
          position: int32 [3, B, S].
          compute: precision, attention route, remat.
          tap: called with "embed", and "layer" after each layer.
        """
        tap("embed", x)
        tokens = causal_tokens(real)
        attention = make_attention(tokens, tokens, compute.attention, compute.attention_block)
        return self.llm(x, mrope_angles(position, self.config.llm), attention, compute, tap)

    def embed_conversation(self, ids: jax.Array, pictures: Pictures | None, compute: ComputeConfig) -> jax.Array:
        """The language model's input for a conversation, [B, S, D].

        Args:
          ids: int32 [B, S]; the runs of picture tokens come in the order of the pictures.
          pictures: None where there are none.
          compute: precision, attention route, remat.

        Raises:
          ValueError: the model was built without its vision tower.
        """
        x = self.llm.embed(ids, compute.compute_dtype)
        if pictures is None:
            return x
        if self.vision is None:
            raise ValueError("The conversation holds pictures, but the model was built without vision tower.")
        return place_pictures(x, ids == self.config.special_tokens.image_pad, self.vision(pictures, compute),
                              pictures.num_tokens(self.config.vision))


def place_pictures(x: jax.Array, at: jax.Array, tokens: jax.Array, num_tokens: jax.Array) -> jax.Array:
    """Puts the tokens of pictures, one picture after the other, where `at` says.

    Args:
      x: [B, S, D].
      at: bool [B, S].
      tokens: [N, T, D], of which row n has `num_tokens[n]`.
      num_tokens: int32 [N].
    """
    # The k-th place takes the k-th token of all: of the picture whose share k falls into.
    number = (jnp.cumsum(at.reshape(-1)) - 1).reshape(at.shape)
    ends = jnp.cumsum(num_tokens)
    picture = jnp.clip(jnp.searchsorted(ends, number, side="right"), 0, len(tokens) - 1)
    within = jnp.clip(number - (ends - num_tokens)[picture], 0, tokens.shape[1] - 1)
    return jnp.where(at[..., None], tokens[picture, within].astype(x.dtype), x)
