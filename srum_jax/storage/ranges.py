"""Ranges of bytes of one file: by pread where it is local, by one request each where it is an object of a bucket."""

import functools
import os
import threading

from etils import epath

from srum_jax.storage import object_store

_REQUEST_BYTES = 1 << 26  # of a bucket at once; an answer lies in memory twice before it is where it belongs


class RangeReader:
    """Random access to the bytes of a file; safe to use from several threads and to send to another process.

    The file is opened when something is first asked of it.
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)
        self._local = object_store.is_local(path)
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the file.

        Raises:
          OSError: there is no such file, or it may not be read.
        """
        if self._local:
            return os.fstat(self._opened()).st_size
        with object_store.os_errors(self.path):
            return self.path.stat().length

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end of a local file.

        Raises:
          OSError: as `size`; or the request failed.
        """
        if not self._local:
            return object_store.read_range(self.path, offset, size)
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.read_into(memoryview(buffer), offset)])

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fills a buffer with the bytes from `offset` on; returns how many, fewer only at the end of a local file.

        Raises:
          OSError: as `read`.
        """
        done = 0
        while done < len(buffer):
            if self._local:
                count = os.preadv(self._opened(), [buffer[done:]], offset + done)  # no shared position, so no lock
                if count == 0:
                    break
            else:
                piece = object_store.read_range(self.path, offset + done, min(len(buffer) - done, _REQUEST_BYTES))
                count = len(piece)
                buffer[done : done + count] = piece
            done += count
        return done

    def close(self) -> None:
        """Gives the descriptor back; the next read opens the file again."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY)
            return self._descriptor

    def __del__(self):
        if os is not None and os.close is not None:  # at the very end Python has cleared the module
            self.close()

    def __getstate__(self) -> dict:
        return {"path": os.fspath(self.path)}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["path"])
