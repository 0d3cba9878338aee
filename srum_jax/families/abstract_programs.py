"""A model and its arrays by shape and layout alone, for programs that are compiled without values."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.inference.context import Context, empty_context
from srum_jax.inference.programs import Programs
from srum_jax.models.architecture import Architecture
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS, dotted, named_shardings
from srum_jax.models.layers.quantized import quantizable, quantized_struct


def programs_without_values(
    architecture: Architecture, config: Any, mesh: Mesh, compute: ComputeConfig, quantize: str | None = None
) -> tuple[Programs, nnx.State]:
    """What `srum_jax.pipeline.load` makes of a checkpoint, and its state, without the values.

    Args:
      architecture, config: of the model.
      mesh: that it lies on.
      compute: its dtype is that of the weights.
      quantize: integers that matrices of layers are kept in, see `models.layers.quantized`; None: the dtype.

    Raises:
      BadInput: if the mesh does not divide the weights.
    """
    graphdef, abstract = architecture.abstract(config, architecture.parts_for({"draw", "read"}))
    layout = named_shardings(abstract, mesh, architecture.rules)
    shardings = {path: variable.get_value() for path, variable in nnx.to_flat_state(layout)}

    integers = quantizable(abstract) if quantize else set()

    def kept(path: tuple, variable: nnx.Variable) -> nnx.Variable:
        name = dotted(path)
        dtype = jnp.float32 if name.startswith(architecture.float32) else jnp.dtype(compute.dtype)
        values = jax.ShapeDtypeStruct(variable.get_value().shape, dtype, sharding=shardings[path])
        return variable.replace(quantized_struct(values, quantize) if name in integers else values)

    state = nnx.from_flat_state([(path, kept(path, variable)) for path, variable in nnx.to_flat_state(abstract)])
    return Programs(graphdef, state, mesh, compute), state


def abstract_context(programs: Programs, rows: int, capacity: int) -> Context:
    """A context of a model with one decoder, on the mesh."""
    llm = programs.config.llm
    context = jax.eval_shape(lambda: empty_context(llm, rows, capacity, programs.compute.compute_dtype))
    heads = "tensor" if llm.num_kv_heads % programs.mesh.shape["tensor"] == 0 else None

    def on_mesh(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        spec = {5: (None, ROWS, None, heads), 2: (ROWS,), 1: (ROWS,), 0: ()}[leaf.ndim]
        return struct(programs.mesh, leaf.shape, leaf.dtype, *spec)

    return jax.tree.map(on_mesh, context)


def struct(mesh: Mesh, shape: tuple[int, ...], dtype, *axes) -> jax.ShapeDtypeStruct:
    """An array on the mesh; mesh axes per leading dimension."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*axes)))
