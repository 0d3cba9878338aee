import types

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from srum_jax.errors import BadInput
from srum_jax.mesh import ProcessRows, arrange, build_mesh
from srum_jax.mesh_config import MeshConfig


@pytest.mark.parametrize(
    ("config", "devices", "shape"),
    [
        (MeshConfig(), 8, (8, 1, 1, 1)),
        (MeshConfig(fsdp=4), 8, (2, 4, 1, 1)),
        (MeshConfig(data=2, fsdp=-1, seq=2), 64, (2, 16, 2, 1)),
        (MeshConfig(data=1, fsdp=2, seq=2, tensor=2), 8, (1, 2, 2, 2)),
    ],
)
def test_minus_one_takes_the_devices_that_the_other_axes_leave(config, devices, shape):
    assert config.shape(devices) == shape


@pytest.mark.parametrize(
    ("config", "devices"),
    [(MeshConfig(fsdp=3), 8), (MeshConfig(data=2), 8), (MeshConfig(fsdp=-1), 8), (MeshConfig(tensor=0), 8)],
)
def test_sizes_that_do_not_fit_the_devices_are_an_error(config, devices):
    with pytest.raises(BadInput, match=r"mesh: .*'fsdp'"):
        config.shape(devices)


def test_the_mesh_has_the_four_axes_and_leaves_layouts_to_the_compiler():
    mesh = build_mesh(MeshConfig(fsdp=2, seq=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "seq": 2, "tensor": 1}
    assert set(mesh.axis_types) == {AxisType.Auto}


def tpu_slices(count):
    """Pretended v5e slices of 4 x 4 chips, the devices of the last one first."""
    return [
        types.SimpleNamespace(platform="tpu", device_kind="TPU v5e", slice_index=number, coords=(x, y, 0),
                              core_on_chip=0, process_index=4 * number + y, id=16 * number + 4 * y + x)
        for number in reversed(range(count)) for y in range(4) for x in range(4)
    ]


@pytest.mark.parametrize(("slices", "shape"), [(1, (2, 8, 1, 1)), (2, (2, 16, 1, 1)), (2, (4, 4, 2, 1)),
                                               (4, (8, 4, 1, 2))])
def test_only_the_data_axis_crosses_from_slice_to_slice(slices, shape):
    arranged = arrange(shape, tpu_slices(slices))
    assert arranged.shape == shape
    assert len({device.id for device in arranged.flat}) == 16 * slices
    found = [{device.slice_index for device in copy.flat} for copy in arranged]
    assert found == [{copy * slices // shape[0]} for copy in range(shape[0])]


def test_a_copy_of_the_state_that_does_not_fit_into_a_slice_is_an_error():
    with pytest.raises(BadInput, match=r"mesh\.data: expected a multiple of 2, the number of slices, found 1"):
        arrange((1, 32, 1, 1), tpu_slices(2))


def described_mesh(shape, processes):
    """As much of a mesh as rows depend on; `processes` is the host of each device."""
    devices = np.array([types.SimpleNamespace(process_index=p) for p in processes], object).reshape(shape)
    sizes = dict(zip(("data", "fsdp", "seq", "tensor"), shape, strict=True))
    return types.SimpleNamespace(shape=sizes, devices=devices)


@pytest.mark.parametrize(
    ("shape", "processes", "groups"),
    [
        ((2, 2, 1, 1), (0, 0, 1, 1), {0: (0, [0, 1, 2, 3]), 1: (1, [4, 5, 6, 7])}),
        # A torus may hand out devices so that the rows of a host are no neighbours.
        ((2, 2, 1, 1), (0, 1, 0, 1), {0: (0, [0, 1, 4, 5]), 1: (1, [2, 3, 6, 7])}),
        ((1, 2, 2, 1), (1, 1, 0, 0), {0: (1, [4, 5, 6, 7]), 1: (0, [0, 1, 2, 3])}),
        # The tokens of a row run across two hosts, which then need the same rows.
        ((1, 2, 2, 1), (0, 1, 0, 1), {0: (0, list(range(8))), 1: (0, list(range(8)))}),
        ((2, 1, 2, 1), (0, 1, 2, 3), {0: (0, [0, 1, 2, 3]), 1: (0, [0, 1, 2, 3]), 3: (1, [4, 5, 6, 7])}),
    ],
)
def test_each_process_reads_the_rows_that_its_devices_hold(shape, processes, groups):
    for process, (group, rows) in groups.items():
        found = ProcessRows.of(described_mesh(shape, processes), 8, process)
        assert (found.group, found.rows.tolist()) == (group, rows)
        assert found.num_groups == len({group for group, _ in groups.values()})


def test_rows_shared_in_part_are_an_error():
    with pytest.raises(BadInput, match="overlapping or unequal parts"):
        ProcessRows.of(described_mesh((2, 1, 3, 1), (0, 0, 1, 1, 2, 2)), 8, 0)


def test_local_rows_are_placed_where_the_mesh_wants_them():
    mesh = build_mesh(MeshConfig(fsdp=2, seq=2))
    values = np.arange(8 * 4 * 3, dtype=np.float32).reshape(8, 4, 3)
    rows = ProcessRows.of(mesh, 8, jax.process_index())
    for spec in (P(("data", "fsdp"), "seq"), P(("data", "fsdp"))):
        placed = rows.place(values, NamedSharding(mesh, spec))
        assert placed.sharding.spec == spec
        np.testing.assert_array_equal(placed, values)
