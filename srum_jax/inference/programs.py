"""The compiled programs of one model on one mesh. Each is compiled once per shape."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS, dotted


@dataclasses.dataclass(frozen=True)
class Program:
    """Something that a model can be asked to compute.

    Attributes:
      function: (model, compute, *arguments) -> arrays.
      rows: numbers of the arguments whose arrays [B, ...] are split by rows over the mesh.
      donated: numbers of the arguments whose memory the result takes over: use what is returned instead.
      static: numbers of the arguments that are constants of the compiled program; they must be hashable.
    """

    function: Callable[..., Any]
    rows: tuple[int, ...] = ()
    donated: tuple[int, ...] = ()
    static: tuple[int, ...] = ()


class Programs:
    """A model on a mesh, and the programs that it was asked for so far.

    Attributes:
      least_text: tokens that a chunk of text is made wide enough for at least; texts that vary in length below it share
        their programs.
    """

    def __init__(self, graphdef: nnx.GraphDef, state: nnx.State, mesh: Mesh, compute: ComputeConfig, *,
                 least_text: int = 0):
        self.mesh, self.compute, self.least_text = mesh, compute, least_text
        self._graphdef, self._state = graphdef, state
        self.config: Any = self.model.config
        self._compiled: dict[Program, Callable] = {}

    @property
    def model(self) -> Any:
        """The module with its arrays."""
        return nnx.merge(self._graphdef, self._state)

    @property
    def rows_multiple(self) -> int:
        """Rows of a batch must be a multiple of this: the devices that rows are split over."""
        return int(np.prod([self.mesh.shape[axis] for axis in ROWS]))

    def call(self, program: Program, *arguments: Any) -> Any:
        """Runs a program, whose rows are put on the mesh before."""
        arguments = [jax.tree.map(self.place, argument) if number in program.rows else argument
                     for number, argument in enumerate(arguments)]
        return self.run(self._jitted(program), *arguments)

    def lower(self, program: Program, *arguments: Any) -> jax.stages.Lowered:
        """The program for arrays that are placed already, or for descriptions of such arrays."""
        return self.run(self._jitted(program).lower, *arguments)

    def run(self, compiled: Callable, *arguments: Any) -> Any:
        """Calls a compiled function of (state, *arguments) on this model and mesh."""
        with jax.set_mesh(self.mesh):
            return compiled(self._state, *arguments)

    def place(self, array: np.ndarray | jax.Array) -> jax.Array:
        """Puts an array [B, ...] on the mesh, rows split. Where processes share the mesh, each of them has it all."""
        rows = NamedSharding(self.mesh, PartitionSpec(ROWS))
        if rows.is_fully_addressable or (isinstance(array, jax.Array) and not array.is_fully_addressable):
            return jax.device_put(array, rows)
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(self.place(jax.random.key_data(array)))
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, rows, lambda index: host[index])

    def own_rows(self, count: int) -> np.ndarray:
        """Bool [count]: which rows of a batch this process is to fill. What the others hold, others bring.

        Args:
          count: rows of the batch, a multiple of `rows_multiple`.
        """
        rows, own = NamedSharding(self.mesh, PartitionSpec(ROWS)), np.zeros(count, bool)
        for place, in rows.addressable_devices_indices_map((count,)).values():
            own[place] = True
        return own

    def fetch(self, arrays: Any) -> Any:
        """NumPy arrays of a tree of results, whole in every process."""
        return jax.tree.map(lambda x: np.asarray(x) if x.is_fully_addressable else
                            multihost_utils.process_allgather(x, tiled=True), arrays)

    def with_parameters(self, parameters: nnx.State) -> "Programs":
        """The same programs with other weights, cast and laid out like those that they replace; nothing is compiled
        again.

        Args:
          parameters: some or all arrays of the model.

        Raises:
          ValueError: the model has no such parameter, or one of another shape.
        """
        given = {dotted(path): variable.get_value() for path, variable in nnx.to_flat_state(parameters)}
        old = nnx.to_flat_state(self._state)
        known = {dotted(path): variable.get_value().shape for path, variable in old}
        for name, value in given.items():
            if known.get(name) != value.shape:
                raise ValueError(f"parameter {name}: expected shape {known.get(name)}, found {value.shape}.")
        state = nnx.from_flat_state([
            (path, variable if dotted(path) not in given else variable.replace(
                jax.tree.map(_like, given[dotted(path)], variable.get_value())))
            for path, variable in old
        ])
        other = copy.copy(self)
        other._state = state
        return other

    def _jitted(self, program: Program) -> Callable:
        if program not in self._compiled:
            graphdef, compute = self._graphdef, self.compute

            def function(state: nnx.State, *arguments: Any) -> Any:
                return program.function(nnx.merge(graphdef, state), compute, *arguments)

            function.__name__ = function.__qualname__ = program.function.__name__.lstrip("_")  # in profiles
            behind_state = ([number + 1 for number in numbers] for numbers in (program.donated, program.static))
            donated, static = behind_state
            self._compiled[program] = jax.jit(function, donate_argnums=donated, static_argnums=static)
        return self._compiled[program]


def _like(value: jax.Array, old: jax.Array) -> jax.Array:
    """Cast and laid out like an array that is there; a copy, as the training step may take the memory of `value`."""
    return jax.device_put(value.astype(old.dtype), old.sharding, may_alias=False)


def row_by_row(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Calls a function of arrays [1, ...] with every row of arrays [B, ...], one after another on each device: for what
    takes so much memory that few rows fit at once. Returns the results [B, ...]."""

    def one_by_one(*arrays: jax.Array) -> jax.Array:
        return jax.lax.map(lambda row: function(*(x[None] for x in row))[0], arrays)

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return one_by_one(*arrays)
    rows = PartitionSpec(ROWS)
    return jax.shard_map(one_by_one, in_specs=(rows,) * len(arrays), out_specs=rows, check_vma=False)(*arrays)
