"""Proves that a whole run is accounted for: prompts x candidates = exported + rejected, every id once, all checksums.

Memory: about 50 bytes for each image of the run; nothing else grows with it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from srum_jax.data.records_source import find_records, read_manifest
from srum_jax.data.schema import RewardRecord
from srum_jax.generation.prompts import Prompt
from srum_jax.stages import GENERATE
from srum_jax.stages.folder import DamagedError
from srum_jax.storage.atomic_file import file_sha256
from tools.make_rewards.run_folder import RunFolder
from tools.make_rewards.verify_records import verify_records

_NO_IMAGE = ("missing_image", "unreadable_image")  # reasons why an image need not be as it was recorded


def verify_run(root: epath.PathLike) -> Iterator[str]:
    """Yields one line for each thing that is wrong.

    Args:
      root: the --out of `generate`, exported.

    Raises:
      BadInput, DamagedError, DataError: a file that everything else is compared with is absent or unreadable.
    """
    folder = RunFolder(root)
    directory = find_records(folder.root)
    expected = _Expected(folder)
    yield from expected.problems
    # Rejects first: whoever was rejected for its image has no checksum to keep.
    yield from expected.see_rejects(folder)
    yield from expected.see_images(folder)
    records: list[str] = []
    for problem in verify_records(directory, on_record=lambda record, place: records.extend(
            expected.see_record(record, place))):
        yield from records
        records.clear()
        yield problem
    yield from records
    yield from expected.missing()
    counts = read_manifest(directory).counts
    for name, value in (("prompts", expected.num_prompts), ("candidates", expected.count),
                        ("exported", int(expected.exported.sum())), ("rejected", expected.reasons)):
        if counts.get(name) != value:
            yield f"{directory}: counts.{name}: expected {value}, from the run, found {counts.get(name)}"


class _Expected:
    """What ids there have to be, and which of them have been seen."""

    def __init__(self, folder: RunFolder):
        self.problems: list[str] = []
        self._path = folder.prompts_file
        self._per_prompt = _num_candidates(folder)
        indices, ids = [], []
        for prompt in self._prompts(folder):
            indices.append(prompt.index)
            ids += [_digest(prompt.record_id(candidate)) for candidate in range(self._per_prompt)]
        self._indices = np.asarray(indices, np.int64)
        self._ids = np.frombuffer(b"".join(ids), "V16")
        self.num_prompts, self.count = len(indices), len(ids)
        self.generated = np.zeros(self.count, np.uint8)
        self.exported, self.rejected = np.zeros(self.count, np.uint8), np.zeros(self.count, np.uint8)
        self.reasons: dict[str, int] = {}
        self._no_image = np.zeros(self.count, bool)
        self._images = np.zeros(self.count, "V16")  # checksums, the first half

    def _prompts(self, folder: RunFolder) -> Iterator[Prompt]:
        digest, before = hashlib.sha256(), -1
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                digest.update(line)
                try:
                    prompt = Prompt.from_json(json.loads(line))
                    prompt.record_id(0)  # raises where no file can have that name
                except (ValueError, TypeError, AttributeError) as error:
                    raise DamagedError(f"{self._path}:{number}: not a prompt ({error}); it was changed after it was "
                                       "written.") from error
                if prompt.index <= before:
                    self.problems.append(f"{self._path}:{number}: index {prompt.index} comes after {before}")
                before = prompt.index
                yield prompt
        stated = folder.settings.get("prompts", {}).get("sha256")
        if digest.hexdigest() != stated:
            self.problems.append(f"{self._path}: checksum: expected {stated}, from run.json, found "
                                 f"{digest.hexdigest()}")

    def _row(self, index: Any, candidate: Any, record_id: str) -> int | None:
        """The place of an id among all that are expected."""
        if type(index) is not int or type(candidate) is not int or not 0 <= candidate < self._per_prompt:
            return None
        place = int(np.searchsorted(self._indices, index))
        if place == len(self._indices) or self._indices[place] != index:
            return None
        row = place * self._per_prompt + candidate
        return row if self._ids[row].tobytes() == _digest(record_id) else None

    def see_images(self, folder: RunFolder) -> Iterator[str]:
        """Every image that was recorded, and its checksum."""
        for unit in tqdm(folder.units, unit="unit", disable=None):
            chunk = folder.stage(GENERATE).chunk(unit)
            for line in folder.generated(unit):
                row = self._row(line.index, line.candidate, line.record_id)
                if row is None:
                    yield f"{chunk}: {line.record_id}: no such prompt and candidate in {self._path.name}"
                    continue
                if self.generated[row]:
                    yield f"{chunk}: {line.record_id}: is recorded twice"
                self.generated[row] = 1
                self._images[row] = np.void(bytes.fromhex(line.image_sha256)[:16])
                if not self._no_image[row]:
                    yield from _verify_image(folder.root / GENERATE / line.image, line.image_sha256)

    def see_rejects(self, folder: RunFolder) -> Iterator[str]:
        """Every image that became no record."""
        path = folder.root / "rejects" / "export-00000-of-00001.jsonl"
        if not path.exists():
            yield f"{path}: no such file; `export` lists there what became no record"
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    entry = json.loads(line)
                    row = self._row(entry["index"], entry["candidate"], entry["record_id"])
                    reason = entry["reason"]
                except (ValueError, KeyError, TypeError) as error:
                    yield f"{path}:{number}: expected a rejected image ({error!r})"
                    continue
                if row is None:
                    yield f"{path}:{number}: {entry['record_id']}: no such prompt and candidate in {self._path.name}"
                    continue
                if self.rejected[row]:
                    yield f"{path}:{number}: {entry['record_id']}: is rejected twice"
                self.rejected[row] = 1
                self._no_image[row] = reason in _NO_IMAGE
                self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def see_record(self, record: RewardRecord, place: str) -> list[str]:
        """An exported record; returns what is wrong with it."""
        row = self._row(record.index, record.candidate, record.record_id)
        if row is None:
            return [f"{place}: {record.record_id}: no such prompt and candidate in {self._path.name}"]
        problems = []
        if self.exported[row]:
            problems.append(f"{place}: {record.record_id}: is exported twice")
        if self.rejected[row]:
            problems.append(f"{place}: {record.record_id}: is exported and rejected")
        if self._images[row].tobytes() != record.image_sha256[:16]:
            problems.append(f"{place}: {record.record_id}: image/sha256: is not that of the generated image")
        self.exported[row] = 1
        return problems

    def missing(self) -> Iterator[str]:
        """Ids that nothing accounts for."""
        names = {"generated": self.generated == 0, "exported nor rejected": (self.exported + self.rejected) == 0}
        for name, absent in names.items():
            rows = np.flatnonzero(absent)
            for row in rows[:10]:
                place, candidate = divmod(int(row), self._per_prompt)
                yield (f"{self._path}: prompt with index {self._indices[place]}, candidate {candidate}: expected once, "
                       f"is not {name}")
            if len(rows) > 10:
                yield f"{self._path}: {len(rows) - 10} more are not {name}"


def _verify_image(path: epath.Path, expected: str) -> Iterator[str]:
    if not path.exists():
        yield f"{path}: recorded, but not there; `generate` makes it again"
    elif (found := file_sha256(path)) != expected:
        yield f"{path}: checksum: expected {expected}, found {found}"


def _num_candidates(folder: RunFolder) -> int:
    count = folder.settings.get("generate", {}).get("settings", {}).get("num_candidates")
    if type(count) is not int or count < 1:
        raise DamagedError(f"{os.fspath(folder.root / 'run.json')}: field 'generate.settings.num_candidates': expected "
                           f"a positive number, found {count!r}.")
    return count


def _digest(record_id: str) -> bytes:
    return hashlib.sha256(record_id.encode()).digest()[:16]
