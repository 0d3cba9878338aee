"""Files that are either complete or absent."""

import concurrent.futures
import contextlib
import errno
import os
import types

import pytest

from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import AtomicFile, atomic_write, create_bytes, write_bytes
from srum_jax.storage.errors import WriteError


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


def test_a_file_has_its_name_when_it_is_complete_and_nothing_is_left_otherwise(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        assert path.read_bytes() == b"before"
        raise KeyboardInterrupt
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as file:
        file.write(b"after")
    assert path.read_bytes() == b"after" and list(tmp_path.iterdir()) == [path]


def test_two_that_write_under_one_temporary_name_wait_for_each_other(tmp_path):
    path, temporary = tmp_path / "file", tmp_path / ".file.partial"
    first = AtomicFile(path, temporary)
    first.file.write(b"first")
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        second = thread.submit(write_bytes, path, b"second", temporary)
        assert not concurrent.futures.wait([second], timeout=0.2).done
        first.commit()
        second.result(timeout=20)
    assert path.read_bytes() == b"second" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_under_a_temporary_name_is_replaced(tmp_path):
    path, temporary = tmp_path / "file", tmp_path / ".file.partial"
    temporary.write_bytes(b"much longer than what is written now")
    write_bytes(path, b"short", temporary)
    assert path.read_bytes() == b"short" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_disk_that_fails_late_leaves_what_was_there(tmp_path, monkeypatch, moment):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    write_bytes(path, b"before")
    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(WriteError, match=r"file: cannot be written, 5 bytes \(No space left on device\)"):
        write_bytes(path, b"after")
    monkeypatch.undo()
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
