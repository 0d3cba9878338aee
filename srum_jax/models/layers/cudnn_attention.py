"""cuDNN's fused attention of NVIDIA GPUs, fed with a mask that is computed at run time.

JAX reaches it by `jax.nn.dot_product_attention(implementation="cudnn")`, which turns the mask into one additive term
for every pair of tokens. What lies in memory at once is 2 bytes a pair, and in the backward pass as many for the
gradient of that term, which nobody asks for but JAX 0.10 has computed all the same (jax-ml/jax#39512 leaves it out).
Scores are never held.
"""

import functools
import logging
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from srum_jax.models.layers.attention_mask import allowed
from srum_jax.models.layers.logical_axes import ROWS, TOKENS
from srum_jax.models.layers.token_stream import TokenStream, padded

FORWARD_PRIMITIVE = "dot_product_attention_fwd_wrapper"  # of JAX; its results are what the backward pass needs
# Pairs of a query and a key on one device, of all its rows together: one row of 32,768 tokens, four of 16,384. Mask and
# gradient then take 4 GiB, about as much as the chunked route for the scores of a block.
MAX_PAIRS = 1 << 30
_MAX_HEAD_WIDTH = 128  # of cards before Hopper
# Odd lengths have no backward pass with a mask, and rows of the mask should begin where vector loads may.
_LENGTH_MULTIPLE = 64
_LOG = logging.getLogger(__name__)

# See `attention.Attention`.
_Attention = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def cudnn_attention(query: TokenStream, key: TokenStream, otherwise: _Attention) -> _Attention:
    """Attention by the kernel wherever it can compute what it is given, else the other one, which a log line says.

    It can for queries, keys and values of bfloat16 or float16 whose heads have a multiple of 8 and at most 128 values,
    and for at most `MAX_PAIRS` pairs. Tokens are padded to a multiple of 64. Under a mesh, rows stay where they are;
    queries stay on their `seq` shard while the few key/value heads are gathered; heads are split over `tensor`.

    Args:
      query, key: fields int32 [B, Sq] and [B, Sk].
      otherwise: what computes the rest.
    """
    mesh = jax.sharding.get_abstract_mesh()
    ways = dict.fromkeys((*ROWS, TOKENS, "tensor"), 1) | dict(mesh.shape)
    rows, num_queries = query.sample.shape
    row_ways = math.prod(ways[axis] for axis in ROWS)
    query, key = (jax.tree.map(lambda x, m=multiple: padded(x, m, -1), stream) for stream, multiple in
                  ((query, _LENGTH_MULTIPLE * ways[TOKENS]), (key, _LENGTH_MULTIPLE)))
    pairs = rows * query.sample.shape[1] * key.sample.shape[1] // (row_ways * ways[TOKENS])

    def attend(query: TokenStream, key: TokenStream, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        mask = allowed(query, key)[:, None]
        return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="cudnn")

    if not mesh.empty:
        queries, keys = PartitionSpec(ROWS, TOKENS), PartitionSpec(ROWS)
        query_heads, key_heads = PartitionSpec(ROWS, TOKENS, "tensor"), PartitionSpec(ROWS, None, "tensor")
        attend = jax.shard_map(attend, in_specs=(queries, keys, query_heads, key_heads, key_heads),
                               out_specs=query_heads, check_vma=False)

    def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        heads, width = k.shape[2:]
        reasons = {
            f"values of {q.dtype}": q.dtype not in (jnp.bfloat16, jnp.float16),
            f"heads of {width} values": width > _MAX_HEAD_WIDTH or width % 8,
            f"{pairs:,} pairs of tokens on a device, more than {MAX_PAIRS:,}": pairs > MAX_PAIRS,
            f"{rows} rows and {heads} key/value heads over a mesh of {ways}": rows % row_ways or heads % ways["tensor"],
        }
        for reason, holds in reasons.items():
            if holds:
                _say_once(reason)
                return otherwise(q, k, v)
        out = attend(query, key, padded(q, query.sample.shape[1]), *(padded(x, _LENGTH_MULTIPLE) for x in (k, v)))
        return out[:, :num_queries]

    return attention


@functools.cache
def _say_once(reason: str) -> None:
    _LOG.warning("attention by cudnn cannot take %s; these are computed by chunked", reason)
