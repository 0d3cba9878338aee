"""Where parameters lie on the mesh ('data', 'fsdp', 'seq', 'tensor')."""

from srum_jax.models.layers.logical_axes import Rules

# Matrices of the decoder are split over their input dimension, so that the shards of a weight gradient leave as
# reduce-scatters. What is small is replicated: with a split output XLA would gather a whole batch of activations to
# form such a gradient.
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
    "small_in": (),  # projections of latents, time embedders, connectors, most vision towers
    "small_out": (),
    "conv": (),
}
