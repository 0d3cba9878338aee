"""Loading weights straight into sharded arrays. Every process reads only what its own devices hold."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import qwix
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from srum_jax.models.layers.logical_axes import dotted, named_shardings
from srum_jax.models.layers.quantized import quantizable, quantize, scale_sharding
from srum_jax.weights.arrays import ArrayReader
from srum_jax.weights.checkpoint import Checkpoint
from srum_jax.weights.dtypes import weight_dtype
from srum_jax.weights.safetensors_read import Region

DtypeOf = Callable[[str], str | np.dtype]


def load(
    checkpoint: Checkpoint, *, mesh: Mesh | None = None, dtype: str | DtypeOf = "float32", only: str | None = None,
    quantize: str | None = None,
) -> tuple[nnx.GraphDef, nnx.State]:
    """Loads the weights of a model, or of one part of it.

    Besides the result, memory holds one shard of one array and what is being read of its layers; of an array that is
    quantized all of it, as integers, and one layer in floats.

    Args:
      checkpoint: opened.
      mesh: lays the arrays out by the architecture's sharding rules; None puts them on the default device.
      dtype: "float32" or "bfloat16" for all arrays, or a function from a parameter's path to its dtype.
      only: name of a part of the model; None for all of it.
      quantize: integers that matrices of layers are kept in, "int8" or "int4", see `models.layers.quantized`; every
        process then reads these whole, since a scale belongs to a column of all input features. None: floats.

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
    state = _filled(wanted, checkpoint.arrays, layout, dtype, quantize)
    if only is None:
        return checkpoint.graphdef, state
    part = getattr(nnx.merge(checkpoint.graphdef, checkpoint.abstract), only)
    return nnx.split(part)[0], state[only]


def _filled(
    abstract: nnx.State, arrays: ArrayReader, layout: nnx.State | None, dtype: str | DtypeOf, integer_dtype: str | None
) -> nnx.State:
    shardings: dict[tuple, NamedSharding] = {}
    if layout is not None:
        shardings = {path: variable.get_value() for path, variable in nnx.to_flat_state(layout)}
    integers = quantizable(abstract) if integer_dtype else set()
    loaded = []
    for path, variable in nnx.to_flat_state(abstract):
        parameter, sharding = dotted(path), shardings.get(path)
        if parameter in integers:
            values = _quantized(arrays, parameter, integer_dtype, sharding)
        else:
            wanted = dtype(parameter) if callable(dtype) else dtype
            wanted = weight_dtype(wanted) if isinstance(wanted, str) else np.dtype(wanted)
            values = _array(arrays.shapes[parameter], functools.partial(arrays.read, parameter), wanted, sharding)
        loaded.append((path, variable.replace(values)))
    return nnx.from_flat_state(loaded)


def _quantized(arrays: ArrayReader, parameter: str, dtype: str, sharding: NamedSharding | None) -> qwix.QArray:
    """A matrix [L, I, O], quantized layer by layer on the default device and gathered on the host."""
    shape = arrays.shapes[parameter]
    integers, scales = np.empty(shape, jnp.dtype(dtype)), []
    for layer in range(shape[0]):
        values = quantize(arrays.read(parameter, (slice(layer, layer + 1),), np.dtype(np.float32)), dtype)
        integers[layer] = values.qvalue[0]
        scales.append(values.scale)

    def placed(values: np.ndarray, sharding: NamedSharding | None) -> jax.Array:
        return _array(values.shape, lambda region, _: values[() if region is None else region], values.dtype, sharding)

    of_scales = None if sharding is None else scale_sharding(sharding, shape, dtype)
    return qwix.QArray(placed(integers, sharding), placed(np.concatenate(scales), of_scales))


def _array(
    shape: tuple[int, ...], read: Callable[[Region | None, np.dtype], np.ndarray], dtype: np.dtype,
    sharding: NamedSharding | None,
) -> jax.Array:
    # Copies always: an array that shares memory with numpy could not be donated to the training step.
    if sharding is None:
        return jax.device_put(read(None, dtype), may_alias=False)
    # jax.make_array_from_callback would hold all shards of the process on the host at once; here it is one.
    devices_of: dict[tuple, list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        key = tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
        devices_of.setdefault(key, []).append(device)
    shards = []
    for key, devices in devices_of.items():
        values = read(tuple(slice(*bounds) for bounds in key), dtype)
        placed = [jax.device_put(values, device, may_alias=False) for device in devices]
        jax.block_until_ready(placed)  # `values` may go before the next shard is read
        shards += placed
    return jax.make_array_from_single_device_arrays(shape, sharding, shards, dtype=dtype)
