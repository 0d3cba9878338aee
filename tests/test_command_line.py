"""What all commands do with their arguments."""

import argparse

import pytest

from srum_jax import command_line
from srum_jax.mesh_config import MeshConfig


@pytest.mark.parametrize(("text", "expected"), [
    ("fsdp=-1", MeshConfig(data=1, fsdp=-1)), ("data=2, fsdp=4,tensor=2", MeshConfig(data=2, fsdp=4, tensor=2)),
    ("seq=2", MeshConfig(data=1, seq=2)), ("data=-1", MeshConfig(data=-1)),
])
def test_a_mesh_is_read_by_axis(text, expected):
    assert command_line.mesh()(text) == expected


def test_one_axis_may_take_what_the_others_leave():
    read = command_line.mesh(("data", "fsdp", "tensor"), rest="fsdp")
    assert read("tensor=2") == MeshConfig(data=1, fsdp=-1, tensor=2)
    assert read("data=-1,fsdp=2") == MeshConfig(data=-1, fsdp=2) and read("fsdp=2") == MeshConfig(data=1, fsdp=2)
    assert read("data=-1") == MeshConfig(data=-1)


@pytest.mark.parametrize("text", ["", "fsdp", "fsdp=0", "fsdp=-2", "rows=2", "fsdp=2,fsdp=2", "fsdp=two", "seq=2"])
def test_a_mesh_that_cannot_be_read_is_an_error(text):
    with pytest.raises(argparse.ArgumentTypeError, match="AXIS=SIZE"):
        command_line.mesh(("data", "fsdp"))(text)
