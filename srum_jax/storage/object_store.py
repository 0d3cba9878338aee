"""Objects of a bucket (`gs://`, `s3://`): read by ranges, written whole.

A bucket knows no append and no rename. An object appears under its name when its last byte has arrived, or not at all,
so what is written goes to a local temporary file (or memory) first and leaves in one upload. Opening an object for
writing and filling it bit by bit would publish a part of it when an error closes the file; opening one with "a"
replaces what was there (gcsfs does so with no more than a Python warning).

Requests go through the fsspec driver of the scheme, in the same instance that `epath` uses, so that both see the same
listings. The drivers repeat requests that fail for a moment; what they raise in the end becomes an OSError here.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from etils import epath
from etils.epath import backend

from srum_jax.errors import BadInput
from srum_jax.storage.errors import AccessError

# What the drivers raise beside OSError. They are looked for only where somebody imported them.
_DRIVER_ERRORS = (
    ("gcsfs.retry", "HttpError"),
    ("gcsfs.retry", "ChecksumError"),
    ("gcsfs.retry", "NonRetryableError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("aiohttp", "ClientError"),
)


def is_local(path: epath.PathLike) -> bool:
    """True where the operating system's own calls work on the path."""
    return "://" not in os.fspath(path)


def require_driver(path: epath.PathLike) -> None:
    """Makes sure that a path can be reached, as far as packages are concerned.

    Raises:
      BadInput: naming what has to be installed.
    """
    if not is_local(path):
        _filesystem(path)


def exists(path: epath.PathLike) -> bool:
    """Whether there is such an object, or a local file.

    Raises:
      OSError: the request failed, so nobody knows.
    """
    with os_errors(path):
        return epath.Path(path).exists()


def read_bytes(path: epath.PathLike) -> bytes:
    """All of an object, or of a local file.

    Raises:
      OSError: the request failed.
    """
    with os_errors(path):
        return epath.Path(path).read_bytes()


def remove(path: epath.PathLike) -> None:
    """Removes an object, or a local file, if it is there.

    Raises:
      OSError: the request failed.
    """
    with os_errors(path):
        epath.Path(path).unlink(missing_ok=True)


def read_range(path: epath.PathLike, offset: int, size: int) -> bytes:
    """Some bytes of an object, in one request; safe to use from several threads.

    Raises:
      FileNotFoundError: no such object.
      OSError: the request failed, and so did its repetitions; or the answer was too short twice.
    """
    with os_errors(path):
        for _ in range(2):  # an answer that breaks off is not always an error of the driver
            found = _filesystem(path).cat_file(os.fspath(path), start=offset, end=offset + size)
            if len(found) == size:
                return found
    raise OSError(f"{os.fspath(path)}: expected {size} bytes from byte {offset} on, found {len(found)}, twice; give "
                  "the same command again")


def sizes(directory: epath.PathLike) -> dict[str, int]:
    """Bytes of every object of a directory by name, in one listing that is not taken from a cache; also of local files.

    Raises:
      FileNotFoundError: no object is there.
      OSError: the request failed.
    """
    if is_local(directory):
        found = {}
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # renamed or removed since it was listed
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_size
        return found
    forget_listing(directory)
    with os_errors(directory):
        entries = _filesystem(directory).ls(os.fspath(directory), detail=True)
    return {entry["name"].rsplit("/", 1)[-1]: entry["size"] for entry in entries if entry["type"] == "file"}


def forget_listing(directory: epath.PathLike) -> None:
    """Drivers remember what a directory held; afterwards they ask again."""
    if not is_local(directory):
        _filesystem(directory).invalidate_cache(os.fspath(directory))


def put_bytes(path: epath.PathLike, data: bytes) -> None:
    """Writes, or replaces, an object.

    Raises:
      OSError: it could not be written; what was there before is still there.
    """
    with os_errors(path):
        _filesystem(path).pipe_file(os.fspath(path), data)


def create_bytes(path: epath.PathLike, data: bytes) -> None:
    """Writes an object if none has its name.

    Raises:
      FileExistsError: one has.
      OSError: it could not be written.
    """
    try:
        with os_errors(path):
            _filesystem(path).pipe_file(os.fspath(path), data, mode="create")
    except FileExistsError:
        forget_listing(epath.Path(path).parent)  # it may say that there is no such object
        raise


def put_file(path: epath.PathLike, local: epath.PathLike) -> None:
    """Writes, or replaces, an object by a local file, which may be larger than the memory.

    Raises:
      OSError: it could not be written; what was there before is still there.
    """
    with os_errors(path):
        _filesystem(path).put_file(os.fspath(local), os.fspath(path))


def _filesystem(path: epath.PathLike) -> Any:
    try:
        return backend.fsspec_backend.fs(path)
    except ImportError as error:
        raise BadInput(f"{os.fspath(path)}: this kind of path needs another package ({error}); for gs:// "
                          "pip install 'srum-jax[gcs]'") from error


@contextlib.contextmanager
def os_errors(path: epath.PathLike) -> Iterator[None]:
    """Around anything that is done to a path: the drivers' own errors become OSError, which callers expect of files.

    Raises:
      AccessError: the bucket refused it.
    """
    try:
        yield
    except driver_errors() as error:
        kind = AccessError if str(getattr(error, "code", "")) == "401" else OSError
        raise kind(_in_one_line(path, error)) from error
    except OSError as error:
        if not is_local(path) and str(error).startswith("Forbidden"):  # what gcsfs makes of the answer 403
            raise AccessError(_in_one_line(path, error)) from error
        if not str(error):  # and of 502
            raise OSError(_in_one_line(path, error)) from error
        raise


def _in_one_line(path: epath.PathLike, error: Exception) -> str:
    return f"{os.fspath(path)}: {' '.join(str(error).split()) or type(error).__name__}"


def driver_errors() -> tuple[type[Exception], ...]:
    """What the drivers that were imported raise beside OSError."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in _DRIVER_ERRORS)
    return tuple(kind for kind in found if kind is not None)
