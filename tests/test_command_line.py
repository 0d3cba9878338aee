"""What all commands do with their arguments."""

import argparse
import ast

import pytest

from srum_jax import command_line
from srum_jax.mesh_config import MeshConfig
from tests.imports import ROOT

# How `--help` calls a path.
PATHS = ("DIR", "FILE", "FOLDER", "HF_DIR", "CKPT_DIR", "NAME_OR_PATH", "REPORT", "REPLIES.jsonl")


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


def path_arguments():
    """Where an argument that is a path is declared, and the name of what reads it."""
    for room in ("srum_jax", "tools", "experiments", "benchmarks"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "add_argument":
                    said = {word.arg: word.value for word in node.keywords}
                    if getattr(said.get("metavar"), "value", None) in PATHS:
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", getattr(said.get("type"), "id", None)


def test_a_tilde_stands_for_the_users_folder_in_every_argument_that_is_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert command_line.user_path("~/run") == "/home/me/run" and command_line.user_path("a/~b") == "a/~b"
    found = dict(path_arguments())
    assert len(found) > 50
    assert {place: kind for place, kind in found.items() if kind not in ("user_path", "local_folder")} == {}


@pytest.mark.parametrize(("kind", "text", "expected"), [(int, "3", 3), (int, "1", 1), (float, "2.5", 2.5)])
def test_a_number_in_range_is_read_as_its_kind(kind, text, expected):
    assert command_line.in_range(kind, 1, 3)(text) == expected


@pytest.mark.parametrize(("kind", "text"), [
    (int, "0"), (int, "4"), (int, "2.5"), (int, "x"), (float, "nan"), (float, "inf"),
])
def test_what_is_no_number_in_range_is_refused_with_both_ends(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match="number from 1 to 3, found"):
        command_line.in_range(kind, 1, 3)(text)
