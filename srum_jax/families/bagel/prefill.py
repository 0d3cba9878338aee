"""Adding texts, image patches and clean latents to a context.

Rows may differ in length, down to none at all: a row without tokens in a chunk is left as it was.

B rows · T, V, G widths of a chunk of text, of patches, of latents · P values of a latent token · D width
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from srum_jax.families.bagel.cached_decoder import Watch, causal_tokens, image_tokens, make_reader
from srum_jax.inference.context import Context
from srum_jax.models.bagel.decoder import Hidden
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.token_stream import TokenStream

NUM_MARKERS = 2  # around every image


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What is added to each row in one go: its tokens, the decoder's inputs for them, and how far positions move on."""

    tokens: TokenStream  # fields [B, T], und first
    inputs: Hidden
    advance: jax.Array  # int32 [B]

    def added(
        self, model: Bagel, context: Context, compute: ComputeConfig, watch: Watch | None = None
    ) -> tuple[Context, Hidden, Any]:
        """The longer context, the last hidden states, and what was watched of each layer; see `make_reader`."""
        read = make_reader(model.llm, self.tokens, self.inputs.und.shape[1], context, compute, watch)
        hidden, written, watched = read(self.inputs)
        return context.append(written, self.tokens.real, self.advance), hidden, watched


def text_chunk(
    model: Bagel, compute: ComputeConfig, context: Context, token_ids: jax.Array, num_tokens: jax.Array
) -> Chunk:
    """Texts, each token of which sees those before it.

    Args:
      model: its language model is used.
      compute: precision.
      context: with at least T free slots.
      token_ids: int32 [B, T], starting and ending markers included; padded at the end.
      num_tokens: int32 [B].
    """
    tokens = causal_tokens(num_tokens, token_ids.shape[1], context.next_position)
    und = model.llm.embed(token_ids, compute.compute_dtype)
    return Chunk(tokens, Hidden(und, _no_latents(und)), num_tokens)


def patch_chunk(
    model: Bagel, compute: ComputeConfig, context: Context, patches: jax.Array, position_ids: jax.Array,
    num_patches: jax.Array,
) -> Chunk:
    """One image to be understood in each row: both markers, then the patches.

    Args:
      model: with a vision tower.
      compute: precision and attention route.
      context: with at least V + 2 free slots.
      patches: float32 [B, V, patch values], pixels in [-1, 1]; padded at the end.
      position_ids: int32 [B, V], rows of the vision position tables.
      num_patches: int32 [B].
    """
    tokens = image_tokens(_with_markers(num_patches, patches.shape[1]), context.next_position)
    patch_tokens = jax.tree.map(lambda x: x[:, NUM_MARKERS:], tokens)
    embedded = model.embed_patches(patches, position_ids, patch_tokens, compute)
    und = jnp.concatenate([_markers(model, patches.shape[0], compute), embedded], axis=1)
    return Chunk(tokens, Hidden(und, _no_latents(und)), (num_patches > 0).astype(jnp.int32))


def latent_chunk(
    model: Bagel, compute: ComputeConfig, context: Context, latent: jax.Array, position_ids: jax.Array,
    num_latents: jax.Array,
) -> Chunk:
    """One clean latent image in each row: und [B, 2, D] of the markers, gen [B, G, D] of the latents.

    Args:
      model: any.
      compute: precision.
      context: with at least G + 2 free slots.
      latent: float32 [B, G, P], scaled as the autoencoder samples them; padded at the end.
      position_ids: int32 [B, G], rows of the latent position table.
      num_latents: int32 [B].
    """
    tokens = image_tokens(_with_markers(num_latents, latent.shape[1]), context.next_position)
    timestep = jnp.zeros(latent.shape[:2], jnp.float32)
    gen = model.embed_latents(latent, timestep, position_ids, compute.compute_dtype)
    und = _markers(model, latent.shape[0], compute)
    return Chunk(tokens, Hidden(und, gen), (num_latents > 0).astype(jnp.int32))


def image_markers(model: Bagel, compute: ComputeConfig) -> jax.Array:
    """The embedded start and end markers of an image, [2, D]."""
    special = model.config.special_tokens
    return model.llm.embed(jnp.array([special.start_of_image, special.end_of_image]), compute.compute_dtype)


def _markers(model: Bagel, rows: int, compute: ComputeConfig) -> jax.Array:
    markers = image_markers(model, compute)
    return jnp.broadcast_to(markers, (rows, *markers.shape))


def _with_markers(num_tokens: jax.Array, width: int) -> jax.Array:
    """Bool [B, 2 + width]: both markers, then the tokens; nothing in rows without tokens."""
    real = jnp.arange(width)[None] < num_tokens[:, None]
    markers = jnp.broadcast_to(num_tokens[:, None] > 0, (num_tokens.shape[0], NUM_MARKERS))
    return jnp.concatenate([markers, real], axis=1)


def _no_latents(und: jax.Array) -> jax.Array:
    return und[:, :0]
