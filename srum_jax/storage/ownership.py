"""One run, one owner: who writes into a work directory keeps others out of it.

On a disk the owner holds a lock of the operating system, which ends with the process, in whatever way that ends. In a
bucket it holds a lease: an object that it writes anew every few seconds. A lease that stands still belongs to nobody.
Lock and lease lie in the directory under one name while they are held, and say who holds them. Of the processes of one
job the first one takes them for all.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import pathlib
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.storage import object_store

OWNER_FILE = "owner.json"

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_RENEWALS = 15.0
_SECONDS_OF_A_LEASE = 75.0  # without a renewal
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)  # a file system that has none


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that works in a directory."""

    host: str
    process: int
    since: str  # date and time
    machine: str  # one start of one machine, and the processes that see each other there
    token: str  # of this very lock or lease
    renewals: int = 0

    @classmethod
    def this_process(cls) -> "Owner":
        """With a new token."""
        now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        return cls(socket.gethostname(), os.getpid(), now, _machine(), secrets.token_hex(8))

    @classmethod
    def read(cls, data: bytes) -> "Owner | None":
        """None where the bytes name no owner: it has not written them yet, or they are damaged."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def to_bytes(self) -> bytes:
        """For `read`."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this machine that is there no more. False where that cannot be seen from here."""
        if self.machine != _machine():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


@contextlib.contextmanager
def owned(directory: epath.Path) -> Iterator[None]:
    """Keeps other processes out of a directory while the block runs.

    Where a lease is lost to another process, because this one was not heard of for too long, this one ends with exit
    code 1: it must write nothing more.

    Args:
      directory: that exists, or one in a bucket.

    Raises:
      BadInput: another process holds it; names its host and number.
      OSError: the bucket or the disk refuses.
    """
    path = directory / OWNER_FILE
    with _locked(pathlib.Path(path)) if object_store.is_local(path) else _leased(path):
        yield


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    descriptor = _lock(path)
    if descriptor is None:
        yield
        return
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, Owner.this_process().to_bytes())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before the lock ends: whoever waits for it sees that this file is no more the one
        os.close(descriptor)


def _lock(path: pathlib.Path) -> int | None:
    """The descriptor of the locked file; None where the file system has no locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # Of POSIX, not of BSD: a child that outlives its killed parent does not inherit it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except OSError as error:
            if error.errno in _NO_LOCKS:
                _LOG.warning("%s: this file system has no locks (%s); see to it yourself that no two runs share a work "
                             "directory.", path.parent, error.strerror)
                os.close(descriptor)
                path.unlink(missing_ok=True)
                return None
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise _refusal(path, Owner.read(os.pread(descriptor, 4096, 0))) from None
        os.close(descriptor)


@contextlib.contextmanager
def _leased(path: epath.Path) -> Iterator[None]:
    owner = Owner.this_process()
    _take(path, owner)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, owner, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with contextlib.suppress(OSError):
            if _is_of(owner, _read(path)):
                object_store.remove(path)


def _take(path: epath.Path, owner: Owner) -> None:
    """Creates the lease, if need be after waiting for the end of one that nobody renews."""
    before, since = None, 0.0
    while True:
        with contextlib.suppress(FileExistsError):
            object_store.create_bytes(path, owner.to_bytes())
            return
        data = _read(path)
        if data is None:
            continue  # given back just now
        found = Owner.read(data)
        if found is not None and found.token == owner.token:
            return  # the first answer of the bucket was lost on its way
        if found is None or not found.is_dead:
            if before is None:
                _LOG.warning("%s: %s was at work here; waiting at most %.0f s to see whether it still is.", path.parent,
                             _named(found), _SECONDS_OF_A_LEASE)
                before, since = data, time.monotonic()
            elif data != before:
                raise _refusal(path, found)
            if time.monotonic() - since < _SECONDS_OF_A_LEASE:
                time.sleep(_SECONDS_BETWEEN_RENEWALS / 3)
                continue
        object_store.remove(path)


def _renew(path: epath.Path, owner: Owner, ended: threading.Event) -> None:
    while not ended.wait(_SECONDS_BETWEEN_RENEWALS):
        try:
            data = _read(path)
            if not _is_of(owner, data):
                _end_process(f"{path}: the lease on this work directory went to {_named(Owner.read(data or b''))}, "
                             "because this process was not heard of for too long; what is saved is intact.")
                return
            owner = dataclasses.replace(owner, renewals=owner.renewals + 1)
            object_store.put_bytes(path, owner.to_bytes())
        except OSError as error:  # the next time may do
            _LOG.debug("%s: not renewed: %s", path, error)


def _read(path: epath.Path) -> bytes | None:
    try:
        object_store.forget_listing(path.parent)
        return object_store.read_bytes(path)
    except FileNotFoundError:
        return None


def _is_of(owner: Owner, data: bytes | None) -> bool:
    found = None if data is None else Owner.read(data)
    return found is not None and found.token == owner.token


def _refusal(path: os.PathLike, owner: Owner | None) -> BadInput:
    return BadInput(f"{path}: {_named(owner)} is at work in this directory; wait for its end, end it, or use another "
                      "directory.")


def _named(owner: Owner | None) -> str:
    if owner is None:
        return "another process"
    return f"process {owner.process} on {owner.host} (since {owner.since})"


def _machine() -> str:
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown {secrets.token_hex(8)}"


def _end_process(reason: str) -> None:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    os._exit(1)
