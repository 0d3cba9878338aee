"""The device mesh."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding

from srum_jax.errors import BadInput
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import MESH_AXES
from srum_jax.models.layers.logical_axes import ROWS


def build_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges all devices of the job, or the given ones, along data, fsdp, seq and tensor.

    Raises:
      BadInput: if their number does not fit.
    """
    devices = jax.devices() if devices is None else devices
    arranged = arrange(config.shape(len(devices)), devices)
    return Mesh(arranged, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def arrange(shape: tuple[int, ...], devices: Sequence[jax.Device]) -> np.ndarray:
    """The devices in an array of the given shape, neighbours on the torus along each axis.

    Of several TPU slices, whole copies of the state (`data`) lie in each: the network between them is slow.

    Raises:
      BadInput: if `data` cannot be split among the slices.
    """
    on_tpu = devices[0].platform == "tpu"
    slices = len({device.slice_index for device in devices}) if on_tpu and hasattr(devices[0], "slice_index") else 1
    if slices == 1:
        return mesh_utils.create_device_mesh(shape, devices=devices, allow_split_physical_axes=True)
    if shape[0] % slices:
        raise BadInput(f"mesh.data: expected a multiple of {slices}, the number of slices, found {shape[0]}; the "
                        "other axes must fit into one slice.")
    return mesh_utils.create_hybrid_device_mesh((shape[0] // slices, *shape[1:]), (slices, *[1] * (len(shape) - 1)),
                                                devices=devices, allow_split_physical_axes=True)


@dataclasses.dataclass(frozen=True)
class ProcessRows:
    """Which rows of every global batch one process holds.

    Processes that hold the same rows (a `seq` or `tensor` axis may run across hosts) form one group, and read the same
    records.
    """

    group: int  # of this process, counted by the first row
    num_groups: int
    rows: np.ndarray  # int [local rows], ascending; a device's rows are neighbours in it
    num_rows: int  # of the global batch

    @classmethod
    def of(cls, mesh: Mesh, num_rows: int, process: int) -> "ProcessRows":
        """Follows the devices of a mesh.

        Args:
          mesh: whose leading axes are those over which rows are split.
          num_rows: of the global batch; a multiple of the devices along these.
          process: number of the process that asks.

        Raises:
          BadInput: if two processes share some of their rows, but not all.
        """
        ways = math.prod(mesh.shape[axis] for axis in ROWS)
        holders = [{device.process_index for device in block} for block in mesh.devices.reshape(ways, -1)]
        blocks: dict[int, tuple[int, ...]] = {}
        for number in sorted(set().union(*holders)):
            blocks[number] = tuple(block for block, processes in enumerate(holders) if number in processes)
        groups = sorted(set(blocks.values()))
        if sum(map(len, groups)) != ways or len(set(map(len, groups))) != 1:
            raise BadInput(f"mesh: processes hold overlapping or unequal parts of the batch's rows ({groups}); choose "
                            "seq and tensor so that they divide, or are multiples of, the devices of one process.")
        size = num_rows // ways
        rows = np.concatenate([np.arange(block * size, (block + 1) * size) for block in blocks[process]])
        return cls(groups.index(blocks[process]), len(groups), rows, num_rows)

    def place(self, local: np.ndarray, sharding: NamedSharding) -> jax.Array:
        """The global array [num_rows, ...] of which this process has `local`, its rows."""

        def shard(index: tuple[slice, ...]) -> Any:
            first = 0 if index[0].start is None else index[0].start
            last = self.num_rows if index[0].stop is None else index[0].stop
            start = int(np.searchsorted(self.rows, first))
            return local[(slice(start, start + last - first), *index[1:])]

        return jax.make_array_from_callback((self.num_rows, *local.shape[1:]), sharding, shard)


def on_mesh(mesh: Mesh, layout: Any) -> Any:
    """A NamedSharding for every PartitionSpec of a tree."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), layout)
