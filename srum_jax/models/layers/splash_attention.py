"""The Pallas splash-attention kernel of TPUs, fed with a mask that is computed at run time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.sharding import PartitionSpec

from srum_jax.models.layers.attention_mask import allowed
from srum_jax.models.layers.logical_axes import ROWS, TOKENS
from srum_jax.models.layers.token_stream import TokenStream, padded

# What rematerialisation may keep of attention: the attended values and, of this kernel, its normaliser too, so that
# the backward pass need not run it again.
CHECKPOINT_NAME = "attended"
# A kernel's block tables have no common layout, but each device needs only those of its own rows and queries: they
# are stacked along the leading axis when they leave the devices, and split the same way when they return.
_PER_DEVICE = PartitionSpec((*ROWS, TOKENS))


def splash_attention(
    query: TokenStream, key: TokenStream, block: int, prefix: int = 0, interpret: bool = False
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Builds the kernel of every row from its mask and returns the attention over it.

    The kernel skips blocks in which no query may see a key. Tokens are padded to a multiple of the block, the prefix by
    itself: a large image behind it then begins and ends with a block, and fewer blocks have to be visited. Under a
    mesh, rows stay where they are; queries stay on their `seq` shard while the few key/value heads are gathered; heads
    are split over `tensor`.

    Args:
      query, key: fields int32 [B, Sq] and [B, Sk].
      block: tokens per block, for queries and keys alike; a multiple of 128 on a TPU.
      prefix: tokens at the beginning, of queries and keys alike, that share no block with the others.
      interpret: run the kernel without a TPU, for tests.
    """
    mesh = jax.sharding.get_abstract_mesh()
    query_multiple = block * (1 if mesh.empty else mesh.shape[TOKENS])
    query_length = query.sample.shape[1]

    def build(query: TokenStream, key: TokenStream) -> splash.SplashAttentionKernel:
        # The kernel takes one mask at a time, so the rows of a device take turns.
        return jax.lax.map(lambda row: _kernel(allowed(*row), block, interpret), (query, key))

    def attend(kernels: splash.SplashAttentionKernel, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        heads_first = (jnp.swapaxes(x, 1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
        out = jax.lax.map(lambda row: row[0](*row[1:]), (kernels, *heads_first))
        return jnp.swapaxes(out, 1, 2)

    if not mesh.empty:
        queries, keys = PartitionSpec(ROWS, TOKENS), PartitionSpec(ROWS)
        build = jax.shard_map(build, in_specs=(queries, keys), out_specs=_PER_DEVICE, check_vma=False)
        query_heads, key_heads = PartitionSpec(ROWS, TOKENS, "tensor"), PartitionSpec(ROWS, None, "tensor")
        attend = jax.shard_map(
            attend, in_specs=(_PER_DEVICE, query_heads, key_heads, key_heads), out_specs=query_heads, check_vma=False
        )

    gap = -prefix % block

    def spread(x: jax.Array, multiple: int, value: int = 0) -> jax.Array:
        if gap:
            x = jnp.concatenate([padded(x[:, :prefix], block, value), x[:, prefix:]], axis=1)
        return padded(x, multiple, value)

    kernels = build(
        jax.tree.map(lambda x: spread(x, query_multiple, -1), query), jax.tree.map(lambda x: spread(x, block, -1), key)
    )

    def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        out = attend(kernels, spread(q, query_multiple), spread(k, block), spread(v, block))
        if gap:
            out = jnp.concatenate([out[:, :prefix], out[:, prefix + gap :]], axis=1)
        return out[:, :query_length]

    return attention


def _kernel(mask: jax.Array, block: int, interpret: bool) -> splash.SplashAttentionKernel:
    # Eight sizes: query, key, key at a time in the compute loop; the same three and two more in the backward pass.
    sizes = splash.BlockSizes(block, block, block, block, block, block, block, block)
    kernel = splash.make_splash_mha(
        mask[None], block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret,
        residual_checkpoint_name=CHECKPOINT_NAME,
    )
    # With a traced mask this flag becomes an array, and the kernel then branches on it in Python.
    infos = (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info)
    return splash.SplashAttentionKernel(*(info._replace(is_dynamic_mask=None) for info in infos), **kernel.kwargs)
