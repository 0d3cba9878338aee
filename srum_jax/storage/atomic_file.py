"""Files that are either complete or absent, on a local disk or in a bucket. Everything that is written whole is written
here."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from etils import epath

from srum_jax.storage import object_store
from srum_jax.storage.errors import writing
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


class AtomicFile:
    """A binary file that has another name until `commit`; of a bucket, a local file until then.

    Attributes:
      file: to write to, and to read from, at any place.
    """

    file: BinaryIO

    def __init__(self, path: epath.PathLike, temporary: epath.Path | None = None, *, durable: bool = True):
        """Opens it.

        Args:
          path: the name that it will have.
          temporary: the name that it has until then, if not one of its own. A killed process leaves that name, and
            whoever writes the file again replaces it. Several processes may do so at once: each waits for the other.
          durable: whether `commit` waits for the disk. Without, the file may be empty after a power cut.

        Raises:
          OSError: it cannot be opened.
        """
        self.path, self._durable, self._lock = epath.Path(path), durable, None
        self._local = is_local(path)
        if not self._local:
            object_store.require_driver(path)
            self.file = tempfile.NamedTemporaryFile()
            return
        self._temporary = partial_name(self.path) if temporary is None else temporary
        if temporary is not None:
            self._lock = _locked(temporary)
        try:
            self.file = open(self._temporary, "w+b")
        except BaseException:
            self._unlock()
            raise

    def commit(self, *, replace: bool = True) -> None:
        """Gives the file its name; afterwards, or after an error, it is closed and nothing else is left.

        Args:
          replace: whether a file of that name is replaced; only local files can do without.

        Raises:
          FileExistsError: it may not be replaced.
          OSError: the bytes cannot be written.
        """
        try:
            if not self._local:
                self.file.flush()
                object_store.put_file(self.path, self.file.name)
                self.file.close()
                return
            if self._durable:
                sync(self.file)
            self.file.close()
            if replace:
                self._temporary.replace(self.path)
            else:
                _link(self._temporary, self.path)
                self._temporary.unlink(missing_ok=True)
        except BaseException:
            self.discard()
            raise
        self._unlock()

    def discard(self) -> None:
        """Removes what was written."""
        with contextlib.suppress(OSError):  # the first error is the one to be told
            self.file.close()
        if self._local:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextlib.contextmanager
def atomic_write(path: epath.PathLike, temporary: epath.Path | None = None, *, durable: bool = True,
                 replace: bool = True) -> Iterator[BinaryIO]:
    """Opens a binary file that appears under its name only when the block ends without an error; see `AtomicFile`."""
    whole = AtomicFile(path, temporary, durable=durable)
    try:
        yield whole.file
    except BaseException:
        whole.discard()
        raise
    whole.commit(replace=replace)


def write_bytes(path: epath.PathLike, data: bytes, temporary: epath.Path | None = None) -> None:
    """Writes a file atomically; see `AtomicFile`.

    Raises:
      WriteError: naming the file and the bytes that it needs.
    """
    with writing(path, len(data)):
        if not is_local(path):
            object_store.put_bytes(path, data)
            return
        with atomic_write(path, temporary) as file:
            file.write(data)


def create_bytes(path: epath.PathLike, data: bytes, temporary: epath.Path | None = None) -> bool:
    """Writes a file atomically if none has its name; returns whether it did.

    Raises:
      WriteError: naming the file and the bytes that it needs.
    """
    with writing(path, len(data)):
        try:
            if not is_local(path):
                object_store.create_bytes(path, data)
                return True
            with atomic_write(path, temporary, replace=False) as file:
                file.write(data)
        except FileExistsError:
            return False
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


def _locked(temporary: epath.Path) -> int:
    """Holds a temporary name for this process: the same command may have been started twice by mistake.

    The lock is on the file, and a process that dies lets go of it. Who waited for it finds that the file has got its
    final name meanwhile, and begins another one.

    Returns:
      A descriptor; closing it lets go.
    """
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: as if nobody else were there
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.stat(temporary), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes UTF-8 text atomically.

    Raises:
      WriteError: as `write_bytes`.
    """
    write_bytes(path, text.encode())


def as_json_lines(values: Iterable[Any]) -> bytes:
    """One line of JSON in UTF-8 for each value."""
    return b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes readable JSON atomically; equal values give equal bytes.

    Raises:
      WriteError: as `write_bytes`.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def file_sha256(path: epath.PathLike) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with object_store.os_errors(path), epath.Path(path).open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
