"""Arguments by shape and layout alone, for programs that are compiled without values."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.inference.context import Context, empty_context
from srum_jax.inference.programs import Programs
from srum_jax.models.layers.logical_axes import ROWS


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
