"""Where BAGEL's parameters and batches lie on the mesh ('data', 'fsdp', 'seq', 'tensor')."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.layers.logical_axes import ROWS, TOKENS, Rules

# Matrices of the language model are split over their input dimension, so that the shards of a weight gradient leave
# as reduce-scatters. What is small is replicated: with a split output XLA would gather a whole batch of activations
# to form such a gradient.
_STATE = ("fsdp", "seq")

RULES: Rules = {
    "layers": (),
    "norm": (),
    "embed_in": _STATE,  # rows of matrices that read the residual stream
    "embed_out": (),  # columns of matrices that write to it
    "heads_in": ("tensor", *_STATE),
    "heads_out": ("tensor",),
    "mlp_in": ("tensor", *_STATE),
    "mlp_out": ("tensor",),
    "vocab_in": _STATE,  # rows of the embedding
    "vocab_out": ("tensor",),  # columns of the output head
    "lora_rank": (),
    "small_in": (),  # latent projections, time embedder, connector, vision tower
    "small_out": (),
    "conv": (),  # autoencoder
}


def batch_shardings(mesh: Mesh, batch: PackedBatch) -> PackedBatch:
    """Rows over data and fsdp, tokens of the three buffers over seq; images go whole to each row's devices."""
    per_row = {"images", "image_size", "reference_images", "ce_index", "ce_labels", "ce_weights", "posterior_moments"}

    def sharding(path: tuple, array: jax.Array) -> NamedSharding:
        name = path[0].name
        spec = PartitionSpec(ROWS) if name in per_row else PartitionSpec(ROWS, TOKENS)
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(sharding, batch)
