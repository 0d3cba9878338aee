"""Fixtures of tests in several folders."""

import os

import fsspec
import pytest
from etils import epath
from etils.epath import backend

from srum_jax.worlds.shapes.bases.bagel import write_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A published directory of the tiny model."""
    directory = tmp_path_factory.mktemp("tiny") / "base"
    write_base(directory, 0)
    return directory


@pytest.fixture
def bucket(monkeypatch):
    """A path whose files are objects: written whole, never appended to, neither renamed nor moved."""
    store = fsspec.filesystem("memory")
    store.rm("/", recursive=True) if store.ls("/") else None

    class Objects:
        """The part of a file system that a bucket has too."""

        exists, isdir, rm, listdir = store.exists, store.isdir, store.rm, store.listdir
        pipe_file, put_file, invalidate_cache = store.pipe_file, store.put_file, store.invalidate_cache

        @staticmethod
        def open(path, mode):
            assert "a" not in mode, "an object cannot be appended to"
            return store.open(os.fspath(path), mode)

        @staticmethod
        def makedirs(path, exist_ok):
            """There are no folders."""

    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", lambda self, path: Objects)
    return epath.Path("gs://bucket/run")
