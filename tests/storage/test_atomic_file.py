"""Files that are either complete or absent."""

import contextlib
import os
import types

import pytest

from srum_jax.data.errors import WriteError
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import create_bytes


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_there_is_not_created_again(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    path = tmp_path / "file"
    assert create_bytes(path, b"first") and not create_bytes(path, b"second")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_vanishes_while_a_folder_is_listed_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "there").write_bytes(b"abc")
    gone = types.SimpleNamespace(name="gone", is_file=lambda: True, stat=(tmp_path / "gone").stat)
    with os.scandir(tmp_path) as entries:
        found = [gone, *entries]
    monkeypatch.setattr(os, "scandir", lambda _: contextlib.nullcontext(found))
    assert object_store.sizes(tmp_path) == {"there": 3}


def test_a_file_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WriteError, match="file/inside"):
        create_bytes(tmp_path / "file" / "inside", b"x")
