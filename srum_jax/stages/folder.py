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

import json
import os
from typing import Any

from etils import epath

from srum_jax.errors import Failure
from srum_jax.generation.work_units import Unit
from srum_jax.stages.set_aside import withdraw
from srum_jax.storage.atomic_file import PARTIAL_MARK, create_bytes, write_bytes
from srum_jax.storage.errors import WriteError


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
          WriteError: naming the file and the bytes it needs; what was committed is intact.
        """
        _make_folder_of(path, data)
        write_bytes(path, data, path.parent / f".{path.name}.partial")

    def create(self, path: epath.Path, data: bytes) -> None:
        """Makes a file that several processes may want to make, all with the same bytes.

        Raises:
          DamagedError: it is there, with other bytes.
          WriteError: as for `write`.
        """
        _make_folder_of(path, data)
        temporary = path.parent / f".{path.name}{PARTIAL_MARK}{self.process}"
        if not path.exists() and create_bytes(path, data, temporary):
            return
        if path.read_bytes() != data:
            raise DamagedError(f"{path}: expected the {len(data)} bytes that this run writes there, found others; it "
                               "was changed, or belongs to another run. Remove it, or use another --out.")

    def create_json(self, path: epath.Path, value: Any) -> None:
        """As `create`, with readable JSON."""
        self.create(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def sweep(self) -> None:
        """Removes what this process, or one that no longer takes part, left of a file that it was about to create."""
        for folder in (self.root, self.root / "rejects", self.generate / "done"):
            for path in folder.iterdir() if folder.exists() else ():
                owner = path.name.rpartition(PARTIAL_MARK)[2]
                if path.name.startswith(".") and PARTIAL_MARK in path.name and owner.isdecimal() and (
                        int(owner) == self.process or (self.process == 0 and int(owner) >= self.num_processes)):
                    path.unlink(missing_ok=True)


def _make_folder_of(path: epath.Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(os.fspath(path), len(data), error) from error
