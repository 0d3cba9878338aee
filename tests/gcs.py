"""A bucket of a local emulator of Google Cloud Storage, reached as `gs://` by gcsfs."""

import os
import secrets
import socket

import pytest
from etils import epath
from etils.epath import backend

_BUCKET = "srum-test"

# gcsfs asks a service that has no emulator what kind of bucket it is, unless it is told not to when it is imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


@pytest.fixture(scope="session")
def emulator():
    """Starts gcp-storage-emulator, and points gcsfs to it."""
    server = pytest.importorskip("gcp_storage_emulator.server", reason="needs srum_jax[dev]")
    pytest.importorskip("gcsfs", reason="needs srum_jax[gcs]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        backend.fsspec_backend._get_filesystem.cache_clear()
        with server.create_server("127.0.0.1", port, in_memory=True, default_bucket=_BUCKET):
            yield
        backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def gcs_bucket(emulator) -> epath.Path:
    """A folder of the bucket that no other test has."""
    return epath.Path(f"gs://{_BUCKET}") / secrets.token_hex(4)
