"""What the stages after `generate` keep in the folder of a run.

    run-segment.json                              settings of the stage; compared when it is resumed
    segment/chunks/00003-of-00016/<unit>.jsonl    one line per image of a committed unit
    segment/done/00003-of-00016.json              the shard is complete
    summary-segment.json                          all shards are complete

A unit is what `generate` made and committed together. Each belongs to one process, by its number. Nothing in the folder
depends on time, on the number of processes or on interruptions.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from srum_jax.data.errors import ImageError, ImageModeError
from srum_jax.data.image_transform import decode_image, to_rgb
from srum_jax.generation.prompts import Prompt, read_jsonl
from srum_jax.stages import noted
from srum_jax.stages.folder import DamagedError, OutputFolder
from srum_jax.storage.atomic_file import file_sha256
from tools.make_rewards.errors import ArgumentError, Reject
from tools.make_rewards.line_fields import check_line

STAGE_VERSION = 1
GENERATE = "generate"
MIN_IMAGE_PIXELS = 32  # of the shorter side


@dataclasses.dataclass(frozen=True)
class StageUnit:
    """Images that were made together, and are judged together."""

    number: int  # among all units of the run
    shard: int
    name: str  # file name of its chunks in every stage


class RunFolder:
    """A folder that `generate` has completed."""

    def __init__(self, root: epath.PathLike, process: int = 0, num_processes: int = 1):
        """Finds what there is.

        Args:
          root: the --out of `generate`.
          process, num_processes: who asks.

        Raises:
          ArgumentError: it is no such folder, or not complete.
        """
        self.root = epath.Path(root)
        run = self.root / "run.json"
        if not run.exists():
            raise ArgumentError(f"--out {root}: expected a folder that `generate` has made (run.json), found none.")
        try:
            self.settings: Mapping[str, Any] = json.loads(run.read_bytes())
            num_shards = operator.index(self.settings["num_shards"])
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{run}: expected the settings of a run ({error}); it was changed.") from error
        self.files = OutputFolder(self.root, num_shards, process, num_processes)
        self.units = self._units(GENERATE)

    @functools.cached_property
    def prompts(self) -> dict[int, Prompt]:
        """By index.

        Raises:
          DamagedError: the file of prompts was changed.
        """
        try:
            prompts = read_jsonl(self.files.prompts)
        except (ValueError, OSError) as error:
            raise DamagedError(f"{error}") from error
        stated, found = self.settings.get("prompts", {}).get("sha256"), file_sha256(self.files.prompts)
        if found != stated:
            raise DamagedError(f"{self.files.prompts}: checksum: expected {stated}, from run.json, found {found}; "
                               "it was changed after it was written.")
        return {prompt.index: prompt for prompt in prompts}

    def prompt(self, generation: Mapping[str, Any]) -> Prompt:
        """That an image was made from.

        Raises:
          DamagedError: the line of the image names another one.
        """
        prompt = self.prompts.get(generation["index"])
        if prompt is None or prompt.record_id(generation["candidate"]) != generation["record_id"]:
            raise DamagedError(f"{generation['record_id']}: expected a prompt and candidate of {self.files.prompts}, "
                               f"found index {generation['index']} and candidate {generation['candidate']}; a chunk "
                               "was changed after it was written. `generate --repair` makes it again.")
        return prompt

    def share(self) -> list[StageUnit]:
        """The units of this process."""
        return [unit for unit in self.units if unit.number % self.files.num_processes == self.files.process]

    def chunk(self, stage: str, unit: StageUnit) -> epath.Path:
        """The file of a unit in a stage."""
        return self.root / stage / "chunks" / self.files.shard_name(unit.shard) / unit.name

    def lines(self, stage: str, unit: StageUnit) -> list[dict[str, Any]]:
        """What a stage wrote of a unit.

        Raises:
          ArgumentError: the stage has not done it yet.
          DamagedError: naming file and line.
        """
        path = self.chunk(stage, unit)
        if not path.exists():
            raise ArgumentError(f"{path}: expected what `{stage}` writes, found nothing; run `{stage}` first, in all "
                                "its processes.")
        lines = []
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                entry = json.loads(line)
                check_line(stage, entry)
            except ValueError as error:
                raise DamagedError(f"{path}:{number}: expected a record of `{stage}` ({error}); it was changed after "
                                   f"it was written. `{stage} --repair` sets it aside and makes it again.") from error
            lines.append(entry)
        return lines

    def compare(self, stage: str, settings: Mapping[str, Any]) -> None:
        """As `begin`, but notes nothing: before anything that may still fail is loaded.

        Raises:
          RunChangedError: lists the differences.
        """
        noted.compare(self.root / f"run-{stage}.json", {"stage_version": STAGE_VERSION, **settings})

    def begin(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Notes the settings of a stage, or compares them with those that it was begun with.

        Raises:
          RunChangedError: lists the differences.
        """
        noted.note(self.root / f"run-{stage}.json", {"stage_version": STAGE_VERSION, **settings})

    def commit(self, stage: str, unit: StageUnit, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes a unit's records; from here on it is done."""
        lines = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
        self.files.write(self.chunk(stage, unit), lines)

    def finish(
        self, stage: str, summarise: Callable[[Iterator[dict[str, Any]]], Mapping[str, Any]]
    ) -> Mapping[str, Any] | None:
        """Marks complete shards; if all are, writes the summary of all records and returns it."""
        by_shard: dict[int, list[StageUnit]] = collections.defaultdict(list)
        for unit in self.units:
            by_shard[unit.shard].append(unit)
        complete = True
        for shard, units in sorted(by_shard.items()):
            if not all(self.chunk(stage, unit).exists() for unit in units):
                complete = False
                continue
            path = self.root / stage / "done" / f"{self.files.shard_name(shard)}.json"
            self.files.create_json(path, {"shard": shard, "chunks": [unit.name for unit in units]})
        if not complete:
            return None
        summary = summarise(line for unit in self.units for line in self.lines(stage, unit))
        self.files.create_json(self.root / f"summary-{stage}.json", summary)
        return summary

    def read_image(self, generation: Mapping[str, Any]) -> tuple[bytes, np.ndarray]:
        """The stored file of a generated image, and its pixels uint8 [H, W, 3].

        Raises:
          Reject: it is absent, unreadable or too small.
          DamagedError: it is a readable image, but not the one that was recorded.
        """
        path = self.root / GENERATE / generation["image"]
        if not path.exists():
            raise Reject("missing_image", f"{path.name}: recorded, but not there; run `generate` again")
        encoded = path.read_bytes()
        try:
            image = to_rgb(decode_image(encoded))
        except ImageModeError as error:
            raise Reject("bad_image_size", f"{path.name}: {error}") from error
        except ImageError as error:
            raise Reject("unreadable_image", f"{path.name}: {error if encoded else 'empty'}") from error
        if hashlib.sha256(encoded).hexdigest() != generation["image_sha256"]:
            raise DamagedError(f"{path}: expected the file with SHA-256 {generation['image_sha256'][:12]}..., found "
                               "another; `generate --repair` sets it aside and makes it again.")
        if min(image.size) < MIN_IMAGE_PIXELS:
            raise Reject("bad_image_size", f"{path.name}: expected at least {MIN_IMAGE_PIXELS} pixels a side, found "
                                           f"{image.width} x {image.height}")
        return encoded, np.asarray(image)

    def _units(self, stage: str) -> list[StageUnit]:
        named = []
        for shard in range(self.files.num_shards):
            path = self.root / stage / "done" / f"{self.files.shard_name(shard)}.json"
            if not path.exists():
                raise ArgumentError(f"{path}: expected all shards of `{stage}` to be complete; run `{stage}` again, in "
                                    "all its processes.")
            try:
                named += [(shard, name) for name in json.loads(path.read_bytes())["chunks"]]
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedError(f"{path}: expected a list of chunks ({error}); it was changed.") from error
        return [StageUnit(number, shard, name) for number, (shard, name) in enumerate(named)]


def rejected(record_id: str, reject: Reject) -> dict[str, Any]:
    """The line of an image that a stage could not use; later stages pass it on."""
    return {"record_id": record_id, "rejected": {"reason": reject.reason, "detail": reject.detail},
            "stage_version": STAGE_VERSION}


def print_outcome(stage: str, count: int, seconds: float, summary: Mapping[str, Any] | None) -> None:
    """Tells how many images a stage has done now, and what it has found once all processes have finished."""
    rate = f" ({count / seconds:.3g} a second)" if count else ""
    print(f"{stage}: {count} images now{rate}" + ("; other processes have not finished" if summary is None else ""))
    for name, value in (summary or {}).items():
        print(f"  {name}: {value}")
