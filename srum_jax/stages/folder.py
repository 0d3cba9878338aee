"""The folder of a run: what lies where, and writing so that a file is complete or absent.

    run.json  prompts.jsonl                       settings, fingerprints; the prompts that are used
    generate/images/00003/<record id>.png
    generate/chunks/00003-of-00016/<unit>.jsonl   records of a committed unit; written after its images
    generate/done/00003-of-00016.json             the shard is complete
    rejects/generate-00003-of-00016.jsonl         rows that were left out
    summary-generate.json                         all shards are complete
    old/                                          what was set aside, under its own path and a number

A unit's files are written by the one process that it belongs to. The others are created once, by whichever process
comes first, and every process would write the same bytes. So temporary names need no random part, and what a killed
process leaves is replaced or removed by the next run.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from typing import Any

from etils import epath

from srum_jax.errors import Failure
from srum_jax.generation.work_units import Unit
from srum_jax.stages.set_aside import withdraw
from srum_jax.storage.atomic_file import is_local, sync


class OutputError(Failure, OSError):
    """A file could not be written; what was committed is intact."""


class DamagedError(Failure, ValueError):
    """A file of the folder is not as it was written."""


class OutputFolder:
    """Paths of a run, as seen by one of its processes."""

    def __init__(self, root: epath.PathLike, num_shards: int, process: int = 0, num_processes: int = 1):
        self.root = epath.Path(root)
        self.num_shards, self.process, self.num_processes = num_shards, process, num_processes
        self.generate = self.root / "generate"
        self.run_json, self.prompts = self.root / "run.json", self.root / "prompts.jsonl"
        self.summary = self.root / "summary-generate.json"

    def shard_name(self, shard: int) -> str:
        """As in all file names."""
        return f"{shard:05d}-of-{self.num_shards:05d}"

    def chunk(self, unit: Unit) -> epath.Path:
        """The records of a unit; where this exists, the unit is committed."""
        return self.generate / "chunks" / self.shard_name(unit.shard) / f"{unit.name}.jsonl"

    def done(self, shard: int) -> epath.Path:
        """Says that a shard is complete."""
        return self.generate / "done" / f"{self.shard_name(shard)}.json"

    def rejects(self, shard: int) -> epath.Path:
        """Rows of a shard that were left out."""
        return self.root / "rejects" / f"generate-{self.shard_name(shard)}.jsonl"

    def committed(self) -> set[epath.Path]:
        """The chunks that exist."""
        found = set()
        chunks = self.generate / "chunks"
        for folder in chunks.iterdir() if chunks.exists() else ():
            found.update(path for path in folder.iterdir() if path.name.endswith(".jsonl")
                         and not path.name.startswith("."))
        return found

    def withdraw(self, unit: Unit) -> list[epath.Path]:
        """Takes back a commit, so that the unit can be made again; what it consisted of, and what later stages made of
        it, goes to `old/`. Returns where it is now."""
        return withdraw(self.root, "generate", self.shard_name(unit.shard), self.chunk(unit).name)

    def write(self, path: epath.Path, data: bytes) -> None:
        """Writes, or replaces, a file of a unit that belongs to this process.

        Raises:
          OutputError: naming the file and the bytes it needs.
        """
        temporary = path.parent / f".{path.name}.partial"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(temporary):
                _write(temporary, data)
                temporary.replace(path)
        except OSError as error:
            _discard(temporary)
            raise _output_error(path, data, error) from error
        except BaseException:
            _discard(temporary)
            raise

    def create(self, path: epath.Path, data: bytes) -> None:
        """Makes a file that several processes may want to make, all with the same bytes.

        Raises:
          DamagedError: it is there, with other bytes.
          OutputError: as for `write`.
        """
        if path.exists():
            _must_hold(path, data)
            return
        temporary = path.parent / f".{path.name}.partial-{self.process}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(temporary):
                _write(temporary, data)
                if is_local(path):
                    os.link(temporary, path)  # unlike a rename, it never replaces
                    temporary.unlink()
                else:
                    temporary.replace(path)
        except FileExistsError:
            _discard(temporary)
            _must_hold(path, data)
        except OSError as error:
            _discard(temporary)
            raise _output_error(path, data, error) from error
        except BaseException:
            _discard(temporary)
            raise

    def create_json(self, path: epath.Path, value: Any) -> None:
        """As `create`, with readable JSON."""
        self.create(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def sweep(self) -> None:
        """Removes what this process, or one that no longer takes part, left of a file that it was about to create."""
        for folder in (self.root, self.root / "rejects", self.generate / "done"):
            for path in folder.iterdir() if folder.exists() else ():
                owner = path.name.rpartition(".partial-")[2]
                if path.name.startswith(".") and ".partial-" in path.name and owner.isdecimal() and (
                        int(owner) == self.process or (self.process == 0 and int(owner) >= self.num_processes)):
                    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(temporary: epath.Path) -> Iterator[None]:
    """Holds a temporary name for this process: the same command may have been started twice by mistake.

    The lock is on the file, and a process that dies lets go of it. Who waited for it finds that the file has got its
    final name meanwhile, and begins another one.
    """
    if not is_local(temporary):  # objects of a bucket appear whole
        yield
        return
    descriptor = None
    try:
        while descriptor is None:
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
            with contextlib.suppress(OSError):  # a file system without locks: as if nobody else were there
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_still(temporary, descriptor):
                os.close(descriptor)
                descriptor = None
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_still(path: epath.Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write(path: epath.Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        sync(file)


def _discard(path: epath.Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # its folder does not exist, or the disk is gone; the next run replaces it


def _must_hold(path: epath.Path, data: bytes) -> None:
    if path.read_bytes() != data:
        raise DamagedError(f"{path}: expected the {len(data)} bytes that this run writes there, found others; it was "
                           "changed, or belongs to another run. Remove it, or use another --out.")


def _output_error(path: epath.Path, data: bytes, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written, {len(data)} bytes ({error.strerror or error}); what was committed "
                       "is intact. Make room and give the same command again.")
