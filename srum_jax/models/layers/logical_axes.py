"""From names of dimensions to mesh axes, by one table, with the checks that XLA does not make."""

import math
from collections.abc import Mapping

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.errors import BadInput

ROWS = ("data", "fsdp")  # what the rows of a batch are split over
TOKENS = "seq"  # what the tokens of a row are split over

Rules = Mapping[str, tuple[str, ...]]  # logical name -> mesh axes that it is split over, outermost first

# Two-byte tiles of a TPU are 16 rows high. Shards of another height, and an fsdp group that covers a whole slice
# of this many chips, were measured to turn reduce-scatters into full-size all-reduces without a word.
_TILE_ROWS = 16
_LARGE_SLICE = 64


def partition_spec(path: str, axes: tuple[str, ...], rules: Rules) -> PartitionSpec:
    """The spec of one parameter.

    Args:
      path: name of the parameter, for messages.
      axes: logical names of its dimensions.
      rules: the table.

    Raises:
      BadInput: if a name has no rule, or two dimensions claim one mesh axis.
    """
    claimed: dict[str, str] = {}
    entries = []
    for name in axes:
        if name not in rules:
            raise BadInput(f"{path}: dimension '{name}' has no sharding rule; known: {', '.join(sorted(rules))}.")
        for mesh_axis in rules[name]:
            if mesh_axis in claimed:
                raise BadInput(
                    f"{path}: dimensions '{claimed[mesh_axis]}' and '{name}' both claim mesh axis '{mesh_axis}'; "
                    "change the rule of one of them."
                )
            claimed[mesh_axis] = name
        entries.append(rules[name] or None)
    return PartitionSpec(*entries)


def named_shardings(abstract_state: nnx.State, mesh: Mesh, rules: Rules) -> nnx.State:
    """A NamedSharding for every variable, in a tree of the same structure.

    Variables without logical axes (constants) are replicated.

    Raises:
      BadInput: on a clash, an unknown name, or a dimension that its mesh axes do not divide.
    """
    return nnx.from_flat_state(
        [(path, variable.replace(_sharding(path, variable, mesh, rules)))
         for path, variable in nnx.to_flat_state(abstract_state)]
    )


def laid_out(abstract_state: nnx.State, mesh: Mesh, rules: Rules) -> nnx.State:
    """The same shapes with their shardings; raises as `named_shardings`."""
    return jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                        abstract_state, named_shardings(abstract_state, mesh, rules))


def check_layout(abstract_state: nnx.State, mesh: Mesh, rules: Rules) -> None:
    """Refuses layouts that compile on a TPU but are known to be silently slow.

    Raises:
      BadInput: listing every parameter concerned and what to change.
    """
    problems = []
    fsdp = mesh.shape.get("fsdp", 1) * mesh.shape.get("seq", 1)
    if mesh.size >= _LARGE_SLICE and fsdp == mesh.size:
        problems.append(
            f"mesh: fsdp x seq = {fsdp} covers all {mesh.size} chips, so weight gradients become full-size "
            "all-reduces; use data of at least 2 (for instance fsdp=32)."
        )
    for path, variable in nnx.to_flat_state(abstract_state):
        sharding = _sharding(path, variable, mesh, rules)
        shape = variable.get_value().shape
        for dim, (size, entry) in enumerate(zip(shape, sharding.spec, strict=False)):
            ways = _ways(entry, mesh)
            if ways > 1 and len(shape) > 1 and size // ways % _TILE_ROWS:
                problems.append(
                    f"{dotted(path)}: dimension {dim} of {shape} leaves {size // ways} rows per shard, "
                    f"expected a multiple of {_TILE_ROWS}; use fewer than {ways} ways."
                )
    if problems:
        raise BadInput("This mesh would be silently slow:\n  " + "\n  ".join(problems))


def dotted(path: tuple[str | int, ...]) -> str:
    """A variable's path in a state as one name, for instance `llm.layers.gen.query.kernel`."""
    return ".".join(map(str, path))


def shapes_by_name(state: nnx.State) -> dict[str, tuple[int, ...]]:
    """Shape of every variable by its dotted name."""
    return {dotted(path): variable.get_value().shape for path, variable in nnx.to_flat_state(state)}


def constrain(x: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """Fixes the layout of an activation on the mesh that is set, if one is; mesh axes per leading dimension."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def _ways(entry: str | tuple[str, ...] | None, mesh: Mesh) -> int:
    names = () if entry is None else (entry,) if isinstance(entry, str) else entry
    return math.prod(mesh.shape[name] for name in names)


def _sharding(path: tuple[str | int, ...], variable: nnx.Variable, mesh: Mesh, rules: Rules) -> NamedSharding:
    axes = variable.get_metadata().get("axes")
    if axes is None:
        return NamedSharding(mesh, PartitionSpec())
    spec = partition_spec(dotted(path), axes, rules)
    shape = variable.get_value().shape
    for dim, (size, entry) in enumerate(zip(shape, spec, strict=True)):
        ways = _ways(entry, mesh)
        if size % ways:
            raise BadInput(
                f"{dotted(path)}: dimension {dim} ('{axes[dim]}') of {shape} cannot be split {ways} ways over mesh "
                f"axes {entry}; choose a mesh whose axes divide {size}."
            )
    return NamedSharding(mesh, spec)

