"""Running stacked layers, scanned or one by one, with rematerialisation."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.cudnn_attention import FORWARD_PRIMITIVE
from srum_jax.models.layers.quantized import cast_floats
from srum_jax.models.layers.splash_attention import CHECKPOINT_NAME

# What the backward pass may keep of a layer's forward pass. "attention" keeps the attended values, the one part
# that is dear to compute and cheap to store, and what kernels need to go backwards from them.
REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "attention": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.save_only_these_names(CHECKPOINT_NAME),
        lambda primitive, *_, **__: primitive.name == FORWARD_PRIMITIVE,
    ),
}

Stream = TypeVar("Stream")


def run_layers(
    layers: nnx.Module,
    call: Callable[[nnx.Module, Stream], Stream],
    x: Stream,
    *,
    num_layers: int,
    compute: ComputeConfig,
    after_each: Callable[[Stream], None] | None = None,
) -> Stream:
    """Passes a residual stream through all layers.

    Args:
      layers: a module whose parameters carry a leading axis of layers.
      call: one layer's work, given that layer and the stream.
      x: the stream, a tree of arrays in the compute dtype.
      num_layers: length of the leading axis.
      compute: whether to scan, and what the backward pass may keep.
      after_each: called with the stream after each layer; needs layers that are neither scanned nor rematerialised.
    """
    if after_each is not None and (compute.scan_layers or compute.remat != "none"):
        raise ValueError("Intermediate values can be looked at only with compute.scan_layers False and compute.remat "
                         f"'none'; found {compute.scan_layers} and {compute.remat!r}.")
    graphdef, stacked = nnx.split(layers)
    # Cast once, before the scan: the shards are then gathered in the compute dtype.
    stacked = cast_floats(stacked, compute.compute_dtype)

    def layer(x: Stream, parameters: nnx.State) -> Stream:
        return call(nnx.merge(graphdef, parameters), x)

    if compute.remat != "none":
        # Inside a scan the compiler cannot merge the recomputation with the forward pass anyway.
        layer = jax.checkpoint(layer, policy=REMAT_POLICIES[compute.remat], prevent_cse=not compute.scan_layers)
    if compute.scan_layers:
        return jax.lax.scan(lambda x, parameters: (layer(x, parameters), None), x, stacked)[0]
    for i in range(num_layers):
        x = layer(x, jax.tree.map(lambda leaf, i=i: leaf[i], stacked))
        if after_each is not None:
            after_each(x)
    return x
