"""Loading weights straight into sharded arrays. Every process reads only what its own devices hold."""

from collections.abc import Callable

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.sharding import RULES
from srum_jax.models.layers.logical_axes import dotted, named_shardings
from srum_jax.weights.arrays import ArrayReader, open_arrays
from srum_jax.weights.dtypes import weight_dtype
from srum_jax.weights.model_kind import BAGEL

DtypeOf = Callable[[str], str | np.dtype]


def load_bagel(
    source_dir: epath.PathLike,
    *,
    mesh: Mesh | None = None,
    dtype: str | DtypeOf = "float32",
    with_vit: bool = True,
    with_vae: bool = True,
) -> tuple[BagelConfig, nnx.GraphDef, nnx.State]:
    """Loads BAGEL's weights.

    Besides the result, memory holds one shard of one array and what is being read of its layers.

    Args:
      source_dir: a published checkpoint (directory or safetensors file), or converted weights.
      mesh: lays the arrays out by BAGEL's sharding rules; None puts them on the default device.
      dtype: "float32" or "bfloat16" for all arrays, or a function from an array's path to its dtype.
      with_vit: whether to load the vision tower, if the configuration has one.
      with_vae: whether to load the autoencoder.

    Returns:
      The configuration, the graph definition, and the state with its arrays; `nnx.merge` of the latter two
      is the model.

    Raises:
      WeightsError: if the files are absent, malformed, or do not fit the configuration; all problems
      together. ConfigError: if the JSON configuration is unusable.
      ShardingError: if an array cannot be laid out on the mesh.
    """
    parts = {"vit": with_vit, "vae": with_vae}
    config, arrays = open_arrays(source_dir, BAGEL, parts)
    graphdef, abstract = BAGEL.abstract(config, parts)
    return config, graphdef, load_state(arrays, abstract, mesh=mesh, dtype=dtype)


def load_state(
    arrays: ArrayReader, abstract: nnx.State, *, mesh: Mesh | None, dtype: str | DtypeOf = "float32"
) -> nnx.State:
    """Fills an abstract state with stored arrays, laid out by BAGEL's sharding rules.

    Args:
      arrays: holds every path of `abstract` with its shape.
      abstract: the wanted variables.
      mesh: None for the default device.
      dtype: as for `load_bagel`.
    """
    shardings: dict[tuple, NamedSharding] = {}
    if mesh is not None:
        layout = named_shardings(abstract, mesh, RULES)
        shardings = {path: variable.get_value() for path, variable in nnx.to_flat_state(layout)}
    loaded = []
    for path, variable in nnx.to_flat_state(abstract):
        name = dotted(path)
        wanted = dtype(name) if callable(dtype) else dtype
        wanted = weight_dtype(wanted) if isinstance(wanted, str) else np.dtype(wanted)
        loaded.append((path, variable.replace(_load(arrays, name, wanted, shardings.get(path)))))
    return nnx.from_flat_state(loaded)


def _load(arrays: ArrayReader, name: str, dtype: np.dtype, sharding: NamedSharding | None) -> jax.Array:
    shape = arrays.shapes[name]
    # Copies always: an array that shares memory with numpy could not be donated to the training step.
    if sharding is None:
        return jax.device_put(arrays.read(name, None, dtype), may_alias=False)
    # jax.make_array_from_callback would hold all shards of the process on the host at once; here it is one.
    devices_of: dict[tuple, list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        key = tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
        devices_of.setdefault(key, []).append(device)
    shards = []
    for key, devices in devices_of.items():
        values = arrays.read(name, tuple(slice(*bounds) for bounds in key), dtype)
        placed = [jax.device_put(values, device, may_alias=False) for device in devices]
        jax.block_until_ready(placed)  # `values` may go before the next shard is read
        shards += placed
    return jax.make_array_from_single_device_arrays(shape, sharding, shards, dtype=dtype)
