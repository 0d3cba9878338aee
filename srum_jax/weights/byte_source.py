"""Ranges of bytes of one file: by pread where it is local, through a file object where it is not."""

import os
import threading
from typing import Protocol

from etils import epath

from srum_jax.weights.errors import WeightsError


class ByteSource(Protocol):
    """Random access to the bytes of a file."""

    size: int

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` with the bytes from `offset` on; WeightsError if the file ends earlier."""

    def close(self) -> None:
        """Releases the file."""


class LocalBytes:
    """A local file; safe to use from several threads."""

    def __init__(self, path: epath.Path):
        self._path = path
        self._descriptor = -1
        self._descriptor = os.open(os.fspath(path), os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` with the bytes from `offset` on."""
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if count == 0:
                raise _ends_early(self._path, offset + len(buffer), offset + done)
            done += count

    def close(self) -> None:
        """Releases the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self):
        if os is not None and os.close is not None:  # at the very end Python has cleared the module
            self.close()


class RemoteBytes:
    """A file of another file system (`gs://`); one range is read at a time."""

    def __init__(self, path: epath.Path):
        self._path = path
        self.size = path.stat().length
        self._lock = threading.Lock()
        self._file = path.open("rb")

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` with the bytes from `offset` on."""
        with self._lock:
            self._file.seek(offset)
            done = 0
            while done < len(buffer):
                piece = self._file.read(len(buffer) - done)
                if not piece:
                    raise _ends_early(self._path, offset + len(buffer), offset + done)
                buffer[done : done + len(piece)] = piece
                done += len(piece)

    def close(self) -> None:
        """Releases the file."""
        self._file.close()


def is_local(path: epath.PathLike) -> bool:
    """Whether a path lies in the local file system."""
    return "://" not in str(path)


def open_bytes(path: epath.PathLike) -> ByteSource:
    """Opens a file for reading ranges.

    Raises:
      WeightsError: if there is no such file, or it may not be read.
    """
    path = epath.Path(path)
    try:
        if path.is_dir():
            raise WeightsError(f"{path}: expected a safetensors file, found a directory.")
        return LocalBytes(path) if is_local(path) else RemoteBytes(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file.") from error
    except PermissionError as error:
        raise WeightsError(f"{path}: may not be read ({error.strerror}); check its permissions.") from error


def _ends_early(path: epath.Path, expected: int, found: int) -> WeightsError:
    return WeightsError(
        f"{path}: the file became shorter while it was read: expected at least {expected} bytes, found "
        f"{found}; copy it again."
    )
