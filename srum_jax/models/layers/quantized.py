"""Matrices of stacked layers kept as 8-bit or 4-bit integers with float32 scales, and products with them.

Weights alone are quantized: activations and what a product adds up stay in the dtype that they have without it. Arrays
and rounding are those of qwix.

Kept as they are: norms and biases (few numbers, which act on everything), embeddings and output heads (rows that are
looked up one by one; logits decide between tokens), convolutions and autoencoders, time embedders, connectors and
latent projections (a hundredth of the weights, between the model and what it draws or reads).

L layers · I input · O output features
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import qwix
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from srum_jax.models.compute import QUANTIZED_DTYPES
from srum_jax.models.layers.logical_axes import dotted

# Input features that share a scale; None: all of them, which is enough for 8 bits.
_GROUP = {"int8": None, "int4": 32}
assert set(_GROUP) == set(QUANTIZED_DTYPES)


def quantizable(state: nnx.State) -> set[str]:
    """Names of the parameters that are kept as integers where that is asked for: matrices [L, I, O] of layers."""
    return {dotted(path) for path, variable in nnx.to_flat_state(state)
            if path[-1] == "kernel" and len(axes := variable.get_metadata()["axes"]) == 3 and axes[0] == "layers"}


@functools.partial(jax.jit, static_argnums=1)
def quantize(matrix: jax.Array, dtype: str) -> qwix.QArray:
    """The nearest integers times scales, symmetric about zero: the largest number of a scale is kept exactly.

    Args:
      matrix: [(L,) I, O].
      dtype: of the integers, "int8" or "int4".

    Returns:
      Integers of the same shape and float32 scales [(L,) I / group, O], one group for "int8".
    """
    rows = matrix.ndim - 2
    others = [axis for axis in range(matrix.ndim) if axis != rows]
    return qwix.quantize(matrix.astype(jnp.float32), jnp.dtype(dtype), channelwise_axes=others,
                         tiled_axes={rows: matrix.shape[rows] // _groups(matrix.shape, dtype)})


def product(x: jax.Array, kernel: jax.Array | qwix.QArray) -> jax.Array:
    """[..., I] times [I, O], computed in the dtype of `x`."""
    einsum = qwix.einsum if isinstance(kernel, qwix.QArray) else jnp.einsum
    return einsum("...i,io->...o", x, kernel.astype(x.dtype))


def cast_floats(tree: Any, dtype: jax.typing.DTypeLike) -> Any:
    """Parameters in another dtype; what is quantized stays, and is cast at the product, in the layer that needs it."""
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, qwix.QArray) else leaf.astype(dtype), tree,
                        is_leaf=lambda leaf: isinstance(leaf, qwix.QArray))


def scale_sharding(sharding: NamedSharding, shape: tuple[int, ...], dtype: str) -> NamedSharding:
    """Where the scales of a matrix [L, I, O] lie: like the matrix, but whole where the mesh does not divide their rows.

    Args:
      sharding: of the matrix.
      shape: of the matrix.
      dtype: see `quantize`.
    """
    layers, rows, columns = (*sharding.spec, None, None, None)[:3]
    names = () if rows is None else (rows,) if isinstance(rows, str) else rows
    divided = _groups(shape, dtype) % math.prod(sharding.mesh.shape[name] for name in names) == 0
    return NamedSharding(sharding.mesh, PartitionSpec(layers, rows if divided else None, columns))


def quantized_struct(matrix: jax.ShapeDtypeStruct, dtype: str) -> qwix.QArray:
    """What `quantize` would make of a matrix [L, I, O] that has a sharding, by shape and layout alone."""
    layers, _, columns = matrix.shape
    return qwix.QArray(
        jax.ShapeDtypeStruct(matrix.shape, jnp.dtype(dtype), sharding=matrix.sharding),
        jax.ShapeDtypeStruct((layers, _groups(matrix.shape, dtype), columns), jnp.float32,
                             sharding=scale_sharding(matrix.sharding, matrix.shape, dtype)),
    )


def as_loaded(state: nnx.State, dtype_of: Callable[[str], jnp.dtype], quantize: str | None) -> nnx.State:
    """Shapes with shardings, as loading makes them: in a dtype by name, matrices of layers perhaps as integers."""
    integers = quantizable(state) if quantize else set()

    def struct(name: str, leaf: jax.ShapeDtypeStruct) -> Any:
        if name in integers:
            return quantized_struct(leaf, quantize)
        return jax.ShapeDtypeStruct(leaf.shape, dtype_of(name), sharding=leaf.sharding)

    return nnx.from_flat_state([(path, variable.replace(struct(dotted(path), variable.get_value())))
                                for path, variable in nnx.to_flat_state(state)])


def _groups(shape: tuple[int, ...], dtype: str) -> int:
    rows, group = shape[-2], _GROUP[dtype]
    return 1 if group is None or rows % group else rows // group
