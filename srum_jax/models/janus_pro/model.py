"""Janus-Pro: one causal decoder that reads pictures through a SigLIP tower and draws them as codes.

B rows · S tokens · D width of the language model · N codes of a picture · K codes of the codebook
P pictures to be read · T tokens of one
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.vision import Aligner, VisionTower
from srum_jax.models.janus_pro.vq import VQ
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.decoder import Decoder
from srum_jax.models.layers.linear import Embedding, Linear
from srum_jax.models.layers.rope import rotary_angles
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.models.layers.token_stream import TokenStream


class CodeHead(nnx.Module):
    """Two maps with GELU between them, from the language model's states to scores of codes."""

    def __init__(self, config: JanusConfig, *, rngs: nnx.Rngs):
        self.fc1 = Linear(config.llm.hidden_size, config.head_width, rngs=rngs)
        self.fc2 = Linear(config.head_width, config.vq.codebook_size, rngs=rngs, axes=("small_in", "vocab_out"))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] to float32 [..., K]."""
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False)).astype(jnp.float32)


class JanusPro(nnx.Module):
    """The whole model, or one without some of its optional parts."""

    def __init__(
        self,
        config: JanusConfig,
        *,
        rngs: nnx.Rngs,
        parts: Iterable[str] = (),
    ):
        """Makes the parameters.

        Args:
          config: sizes.
          rngs: source of random numbers.
          parts: of "vision" (reads pictures), "vq" (codes of pictures, and pictures of codes).
        """
        wanted, width = frozenset(parts), config.llm.hidden_size
        self.config = config
        self.llm = Decoder(config.llm, rngs=rngs)
        # Neither the tokenizer's codebook nor a part of the embedding of texts.
        self.gen_embed = Embedding(config.vq.codebook_size, config.vq.code_width, rngs=rngs)
        self.gen_aligner = Aligner(config.vq.code_width, width, config.gen_aligner_depth, rngs=rngs)
        self.gen_head = CodeHead(config, rngs=rngs)
        self.vision = VisionTower(config.vision, rngs=rngs) if "vision" in wanted else None
        self.aligner = Aligner(config.vision.hidden_size, width, config.aligner_depth, rngs=rngs)
        self.vq = VQ(config.vq, rngs=rngs) if "vq" in wanted else None

    def embed_codes(self, codes: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """The language model's input for codes, int32 [...] to [..., D]."""
        return self.gen_aligner(self.gen_embed(codes, dtype))

    def read_pictures(self, pictures: jax.Array, compute: ComputeConfig) -> jax.Array:
        """The language model's input for pictures float32 [P, H, W, 3] in [-1, 1]: [P, T, D].

        Raises:
          ValueError: the model was built without its vision tower.
        """
        if self.vision is None:
            raise ValueError("There are pictures to be read, but the model was built without vision tower.")
        return self.aligner(self.vision(pictures, compute))

    def embed_conversation(self, ids: jax.Array, pictures: jax.Array | None, compute: ComputeConfig) -> jax.Array:
        """The language model's input for a text with pictures, [B, S, D].

        Args:
          ids: int32 [B, S]; each token of a picture has a place of its own.
          pictures: float32 [B, k, H, W, 3] in [-1, 1], of each row in the order of their places; those that a row lacks
            may be anything. None where there are none.
          compute: precision, remat.
        """
        x = self.llm.embed(ids, compute.compute_dtype)
        if pictures is None:
            return x
        tokens = self.read_pictures(pictures.reshape(-1, *pictures.shape[2:]), compute)
        tokens = tokens.reshape(len(x), -1, x.shape[-1]).astype(x.dtype)
        at = ids == self.config.special_tokens.image
        number = jnp.clip(jnp.cumsum(at, axis=1) - 1, 0, tokens.shape[1] - 1)
        return jnp.where(at[..., None], jnp.take_along_axis(tokens, number[..., None], axis=1), x)

    def hidden(
        self, x: jax.Array, tokens: TokenStream, compute: ComputeConfig, tap: Tap = no_tap
    ) -> jax.Array:
        """The language model over embedded tokens, [B, S, D], after the final norm.

        Args:
          x: [B, S, D] in the compute dtype.
          tokens: whose they are, and where: see `causal_tokens`.
          compute: precision, attention route, remat.
          tap: called with "layer" after each layer; needs an unscanned, unrematerialised model.
        """
        attention = make_attention(tokens, tokens, compute.attention, compute.attention_block)
        return self.llm(x, self.angles(tokens.position), attention, compute, tap)

    def angles(self, position: jax.Array):
        """Rotary angles of positions int32 [B, S]; `Decoder` takes them."""
        return rotary_angles(position, self.config.llm.head_dim, self.config.llm.rope_theta)
