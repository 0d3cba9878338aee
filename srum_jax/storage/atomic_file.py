"""Files that are either complete or absent, on a local disk or in a bucket."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from typing import Any, BinaryIO

from etils import epath

from srum_jax.data.errors import WriteError
from srum_jax.storage import object_store
from srum_jax.storage.object_store import is_local

PARTIAL_MARK = ".partial-"


def partial_name(path: epath.Path) -> epath.Path:
    """A temporary name in the same directory, different at each call. Readers ignore such files."""
    return path.parent / f".{path.name}{PARTIAL_MARK}{secrets.token_hex(4)}"


def sync(file: BinaryIO) -> None:
    """Flushes, and where the file is local waits until its bytes are on the disk.

    Raises:
      OSError: they could not be written; some disks say so only now.
    """
    file.flush()
    try:
        descriptor = file.fileno()
    except (OSError, AttributeError, ValueError):  # remote files have no descriptor
        return
    os.fsync(descriptor)


@contextlib.contextmanager
def atomic_write(path: epath.PathLike) -> Iterator[BinaryIO]:
    """Opens a binary file that appears under its name only when the block ends without an error."""
    path = epath.Path(path)
    if not is_local(path):
        with object_store.upload(path) as file:
            yield file
        return
    temporary = partial_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            sync(file)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to be told
            temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Writes a file atomically.

    Raises:
      WriteError: naming the file and the bytes that it needs.
    """
    try:
        if not is_local(path):
            object_store.put_bytes(path, data)
            return
        with atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        raise WriteError(os.fspath(path), len(data), error) from error


def create_bytes(path: epath.PathLike, data: bytes) -> bool:
    """Writes a file atomically if none has its name; returns whether it did.

    Raises:
      WriteError: naming the file and the bytes that it needs.
    """
    path = epath.Path(path)
    try:
        if not is_local(path):
            object_store.create_bytes(path, data)
            return True
        temporary = partial_name(path)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                sync(file)
            _link(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise WriteError(os.fspath(path), len(data), error) from error
    return True


def _link(temporary: epath.Path, path: epath.Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename, it never replaces
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(os.fspath(path)) from None
        temporary.replace(path)


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes UTF-8 text atomically.

    Raises:
      WriteError: as `write_bytes`.
    """
    write_bytes(path, text.encode("utf-8"))


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes readable JSON atomically; equal values give equal bytes.

    Raises:
      WriteError: as `write_bytes`.
    """
    write_text(path, readable_json(value))


def readable_json(value: Any) -> str:
    """As people read it; equal values give equal text."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def file_sha256(path: epath.PathLike, block_bytes: int = 1 << 22) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with object_store.os_errors(path), epath.Path(path).open("rb") as file:
        while block := file.read(block_bytes):
            digest.update(block)
    return digest.hexdigest()
