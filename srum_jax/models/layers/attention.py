"""Joint attention over packed tokens, by a mask made of per-token integers.

B rows · S tokens · N query heads · K key/value heads · H head width
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from srum_jax.models.layers.attention_mask import allowed
from srum_jax.models.layers.cudnn_attention import cudnn_attention
from srum_jax.models.layers.splash_attention import CHECKPOINT_NAME, splash_attention
from srum_jax.models.layers.token_stream import TokenStream, padded

# (queries [B, Sq, N, H], keys [B, Sk, K, H], values [B, Sk, K, H]) -> [B, Sq, N, H]
Attention = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def make_attention(
    query: TokenStream, key: TokenStream, implementation: str, block: int, *, prefix: int = 0
) -> Attention:
    """Attention for one fixed layout of tokens; whatever all layers share is computed here, once.

    Query head j reads key/value head `j // (N / K)`; scores are scaled by `H ** -0.5`; softmax is float32.

    Args:
      query, key: the tokens, fields [B, Sq] and [B, Sk].
      implementation: "dense" holds all scores at once; "chunked" those of `block` queries, recomputed in the
        backward pass; "splash" is the TPU kernel, which skips blocks that the mask empties; "cudnn" that of NVIDIA
        GPUs, which leaves what it cannot take to the chunked route. What "auto" means is known where the devices are.
      block: tokens per block of the chunked and splash routes.
      prefix: tokens at the beginning, of queries and keys alike, that the kernel puts in no block with the others; it
        changes speed alone.
    """
    match implementation:
        case "splash":
            return splash_attention(query, key, block, prefix=prefix)
        case "cudnn":
            return cudnn_attention(query, key, otherwise=_named(_chunked(query, key, block)))
        case "chunked":
            return _named(_chunked(query, key, block))
        case "dense":
            mask = allowed(query, key)[:, None]
            return _named(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=mask))
    raise ValueError(f"attention: expected dense, chunked, splash or cudnn, found {implementation!r}")


def _named(attention: Attention) -> Attention:
    """The same, which rematerialisation may keep; kernels name what their backward passes need themselves."""
    return lambda q, k, v: checkpoint_name(attention(q, k, v), CHECKPOINT_NAME)


def _chunked(query: TokenStream, key: TokenStream, block: int) -> Attention:
    num_tokens = query.sample.shape[1]
    block = min(block, num_tokens)

    def blocks(x: jax.Array) -> jax.Array:  # [B, S, ...] -> [S / block, B, block, ...]
        return jnp.moveaxis(padded(x, block).reshape(x.shape[0], -1, block, *x.shape[2:]), 1, 0)

    query_blocks = jax.tree.map(blocks, query)

    def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        @jax.checkpoint
        def one_block(inputs: tuple[TokenStream, jax.Array]) -> jax.Array:
            tokens, q_block = inputs
            return jax.nn.dot_product_attention(q_block, k, v, mask=allowed(tokens, key)[:, None])

        out = jax.lax.map(one_block, (query_blocks, blocks(q)))
        return jnp.moveaxis(out, 0, 1).reshape(q.shape[0], -1, *q.shape[2:])[:, :num_tokens]

    return attention
