"""Loading weights straight into sharded arrays. Every process reads only what its own devices hold."""

from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from srum_jax.models.layers.logical_axes import dotted, named_shardings
from srum_jax.weights.arrays import ArrayReader
from srum_jax.weights.checkpoint import Checkpoint
from srum_jax.weights.dtypes import weight_dtype

DtypeOf = Callable[[str], str | np.dtype]


def load(
    checkpoint: Checkpoint, *, mesh: Mesh | None = None, dtype: str | DtypeOf = "float32", only: str | None = None
) -> tuple[nnx.GraphDef, nnx.State]:
    """Loads the weights of a model, or of one part of it.

    Besides the result, memory holds one shard of one array and what is being read of its layers.

    Args:
      checkpoint: opened.
      mesh: lays the arrays out by the architecture's sharding rules; None puts them on the default device.
      dtype: "float32" or "bfloat16" for all arrays, or a function from a parameter's path to its dtype.
      only: name of a part of the model; None for all of it.

    Returns:
      The graph definition, and the state with its arrays; `nnx.merge` of them is the model, or the part.

    Raises:
      WeightsError: a file became shorter, or `dtype` is another name.
      BadInput: an array cannot be laid out on the mesh.
    """
    wanted, layout = checkpoint.abstract, None
    if only is not None:
        wanted = nnx.from_flat_state([(path, variable) for path, variable in nnx.to_flat_state(wanted)
                                      if path[0] == only])
    if mesh is not None:
        layout = named_shardings(wanted, mesh, checkpoint.architecture.rules)
    state = _filled(wanted, checkpoint.arrays, layout, dtype)
    if only is None:
        return checkpoint.graphdef, state
    part = getattr(nnx.merge(checkpoint.graphdef, checkpoint.abstract), only)
    return nnx.split(part)[0], state[only]


def _filled(
    abstract: nnx.State, arrays: ArrayReader, layout: nnx.State | None, dtype: str | DtypeOf
) -> nnx.State:
    shardings: dict[tuple, NamedSharding] = {}
    if layout is not None:
        shardings = {path: variable.get_value() for path, variable in nnx.to_flat_state(layout)}
    loaded = []
    for path, variable in nnx.to_flat_state(abstract):
        parameter = dotted(path)
        wanted = dtype(parameter) if callable(dtype) else dtype
        wanted = weight_dtype(wanted) if isinstance(wanted, str) else np.dtype(wanted)
        loaded.append((path, variable.replace(_array(arrays, parameter, wanted, shardings.get(path)))))
    return nnx.from_flat_state(loaded)


def _array(arrays: ArrayReader, parameter: str, dtype: np.dtype, sharding: NamedSharding | None) -> jax.Array:
    shape = arrays.shapes[parameter]
    # Copies always: an array that shares memory with numpy could not be donated to the training step.
    if sharding is None:
        return jax.device_put(arrays.read(parameter, None, dtype), may_alias=False)
    # jax.make_array_from_callback would hold all shards of the process on the host at once; here it is one.
    devices_of: dict[tuple, list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        key = tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
        devices_of.setdefault(key, []).append(device)
    shards = []
    for key, devices in devices_of.items():
        values = arrays.read(parameter, tuple(slice(*bounds) for bounds in key), dtype)
        placed = [jax.device_put(values, device, may_alias=False) for device in devices]
        jax.block_until_ready(placed)  # `values` may go before the next shard is read
        shards += placed
    return jax.make_array_from_single_device_arrays(shape, sharding, shards, dtype=dtype)
