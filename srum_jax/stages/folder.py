"""The folder of a run, stage by stage: what lies where, and writing so that a file is complete or absent.

    run.json  run-judge.json                      what the first stage, and a later one, were begun with
    judge/chunks/00003-of-00016/<unit>.jsonl      records of a committed unit
    judge/done/00003-of-00016.json                the shard is complete
    rejects/judge-00003-of-00016.jsonl            what was left out
    summary-judge.json                            all shards are complete
    old/                                          what was set aside, under its own path and a number

A unit is what is made and committed together; it is of one shard, and belongs to one process. A unit's files are
written by that process. The others are created once, by whichever process comes first, and every process would write
the same bytes. So temporary names need no random part, and what a killed process leaves is replaced by the next run.
Nothing in the folder depends on time, on the number of processes or on interruptions.
"""

import collections
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from etils import epath

from srum_jax.errors import BadInput, Failure
from srum_jax.stages import GENERATE, STAGES
from srum_jax.stages.processes import ALONE, Processes
from srum_jax.stages.set_aside import set_aside, withdraw_export
from srum_jax.storage import atomic_file, object_store
from srum_jax.storage.atomic_file import as_json_lines
from srum_jax.storage.errors import writing
from srum_jax.storage.reading import is_hidden


class DamagedError(Failure, ValueError):
    """A file of the folder is not as it was written."""


class Unit(Protocol):
    """What is made and committed together."""

    @property
    def number(self) -> int:
        """Among all units of the run; decides which process it belongs to."""

    @property
    def shard(self) -> int:
        """That it is of."""

    @property
    def name(self) -> str:
        """Unique in the shard, and the same in every stage."""


U = TypeVar("U", bound=Unit)


class StageFolder:
    """Paths of one stage of a run, as seen by one of its processes."""

    def __init__(self, root: epath.PathLike, stage: str, num_shards: int, processes: Processes = ALONE):
        """Names the paths; nothing has to exist.

        Args:
          root: of the run.
          stage: one of `stages.STAGES`.
          num_shards: of the run.
          processes: that share the units, and which of them this is.
        """
        self.root, self.stage, self.num_shards, self.processes = epath.Path(root), stage, num_shards, processes
        self.folder = self.root / stage
        self.settings = self.root / ("run.json" if stage == GENERATE else f"run-{stage}.json")
        self.summary = self.root / f"summary-{stage}.json"

    def of(self, stage: str) -> "StageFolder":
        """That of another stage of the same run."""
        return StageFolder(self.root, stage, self.num_shards, self.processes)

    def shard_name(self, shard: int) -> str:
        """As in all file names."""
        return f"{shard:05d}-of-{self.num_shards:05d}"

    def chunk(self, unit: Unit) -> epath.Path:
        """The records of a unit; where this exists, the unit is committed."""
        return self.folder / "chunks" / self.shard_name(unit.shard) / f"{unit.name}.jsonl"

    def done(self, shard: int) -> epath.Path:
        """Says that a shard is complete."""
        return self.folder / "done" / f"{self.shard_name(shard)}.json"

    def rejects(self, shard: int) -> epath.Path:
        """What was left out of a shard."""
        return self.root / "rejects" / f"{self.stage}-{self.shard_name(shard)}.jsonl"

    def committed(self) -> set[epath.Path]:
        """The chunks that exist. What a system or an editor leaves between them is none."""
        chunks, found = self.folder / "chunks", set()
        shards = {self.shard_name(shard) for shard in range(self.num_shards)}
        for folder in chunks.iterdir() if chunks.exists() else ():
            if folder.name in shards:
                found.update(path for path in folder.iterdir()
                             if path.name.endswith(".jsonl") and not is_hidden(path.name))
        return found

    def lines(
        self, unit: Unit, check: Callable[[Any], object], expected: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The records of a committed unit.

        Args:
          unit: which one.
          check: of a parsed line; raises ValueError, also where it is no object with a `record_id`.
          expected: ids of the records, in order, where the caller knows them.

        Raises:
          BadInput: it is not committed.
          DamagedError: a line is no JSON, or does not pass, or they are others; names the file, and the line.
        """
        path, found = self.chunk(unit), []
        if not path.exists():
            raise BadInput(f"{path}: expected what `{self.stage}` writes, found nothing; run `{self.stage}` first, "
                               "in all its processes.")
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                entry = json.loads(line)
                check(entry)
            except (ValueError, RecursionError) as error:
                raise DamagedError(f"{path}:{number}: expected a record of `{self.stage}` ({error}); {self.repair}"
                                   ) from error
            found.append(entry)
        ids = [entry["record_id"] for entry in found]
        if expected is not None and ids != list(expected):
            raise DamagedError(f"{path}: expected the records {_listed(expected)}, found {_listed(ids)}; {self.repair}")
        return found

    @property
    def repair(self) -> str:
        """Ends a message about a file that is not as it was written."""
        return f"it was changed after it was written. `{self.stage} --repair` sets it aside and makes it again."

    def commit(self, unit: Unit, records: Iterable[Mapping[str, Any]]) -> None:
        """Writes a unit's records; from here on it is done.

        Raises:
          WriteError: as for `write`.
        """
        self.write(self.chunk(unit), as_json_lines(records))

    def withdraw(self, unit: Unit) -> list[epath.Path]:
        """Takes back a commit, so that the unit can be made again; what it consisted of, and what later stages made of
        it, goes to `old/`. Returns where it is now.

        The stage's own chunk is moved last: a run that is stopped in between finds the same reason to withdraw it once
        more.
        """
        moved = withdraw_export(self.root)
        for name in reversed(STAGES[STAGES.index(self.stage) :]):
            stage = self.of(name)
            for path in (stage.summary, stage.done(unit.shard)):
                path.unlink(missing_ok=True)
            if stage.chunk(unit).exists():
                moved.append(set_aside(self.root, stage.chunk(unit)))
        return [path for path in moved if path is not None]

    def finish(
        self,
        shards: Mapping[int, Sequence[Unit]],
        summarise: Callable[[], Mapping[str, Any]],
        describe: Callable[[int], Mapping[str, Any]] = lambda shard: {},
    ) -> Mapping[str, Any] | None:
        """Marks the shards that are complete; if all are, writes the summary and returns it.

        Args:
          shards: all units of the run, by shard.
          summarise: of everything, once it is there.
          describe: what is noted of a complete shard besides its chunks.

        Raises:
          DamagedError, WriteError: as for `create`.
        """
        committed = self.committed()
        complete = True
        for shard, units in shards.items():
            chunks = [self.chunk(unit) for unit in units]
            if committed.issuperset(chunks):
                self.create_json(self.done(shard), {"shard": shard, "chunks": [chunk.name for chunk in chunks],
                                                    **describe(shard)})
            else:
                complete = False
        if not complete:
            return None
        summary = summarise()
        self.create_json(self.summary, summary)
        return summary

    def write(self, path: epath.Path, data: bytes) -> None:
        """Writes, or replaces, a file of a unit that belongs to this process.

        Raises:
          WriteError: naming the file and the bytes it needs; what was committed is intact.
        """
        _make_folder_of(path, data)
        atomic_file.write_bytes(path, data, _temporary(path))

    def create(self, path: epath.Path, data: bytes) -> None:
        """Makes a file that several processes may want to make, all with the same bytes.

        Raises:
          DamagedError: it is there, with other bytes.
          WriteError: as for `write`.
        """
        if not create_once(path, data) and path.read_bytes() != data:
            raise DamagedError(f"{path}: expected the {len(data)} bytes that this run writes there, found others; it "
                               "was changed, or belongs to another run. Remove it, or use another --out.")

    def create_json(self, path: epath.Path, value: Any) -> None:
        """As `create`, with readable JSON."""
        self.create(path, readable_json(value))


def by_shard(units: Iterable[U]) -> dict[int, list[U]]:
    """Units by their shard; the shards in order."""
    shards = collections.defaultdict(list)
    for unit in units:
        shards[unit.shard].append(unit)
    return dict(sorted(shards.items()))


def create_once(path: epath.Path, data: bytes) -> bool:
    """Writes a file, and its folder, if none has its name; returns whether it did.

    Raises:
      WriteError: naming the file and the bytes it needs.
    """
    _make_folder_of(path, data)
    if not object_store.exists(path) and atomic_file.create_bytes(path, data, _temporary(path)):
        return True
    if object_store.is_local(path):
        _temporary(path).unlink(missing_ok=True)  # of a process that was killed when all but its name was gone
    return False


def readable_json(value: Any) -> bytes:
    """As people read it, in the order that it was made in."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names[:4]) or "none"
    return f"{text}, ... ({len(names)})" if len(names) > 4 else text


def _temporary(path: epath.Path) -> epath.Path:
    return path.parent / f".{path.name}.partial"


def _make_folder_of(path: epath.Path, data: bytes) -> None:
    if object_store.is_local(path):  # a bucket has none
        with writing(path, len(data)):
            path.parent.mkdir(parents=True, exist_ok=True)
