"""Proves that a run is accounted for: prompts x candidates = exported + rejected, every id once, all checksums."""

import collections
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from etils import epath
from tqdm import tqdm

from srum_jax.data.records_source import find_records, read_manifest
from srum_jax.data.schema import RewardRecord
from srum_jax.stages import GENERATE
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
    # Rejects first: whoever was rejected for its image has no checksum to keep.
    yield from expected.see_rejects()
    yield from expected.see_images()
    records: list[str] = []
    for problem in verify_records(directory, on_record=lambda record, place: records.extend(
            expected.see_record(record, place))):
        yield from records
        records.clear()
        yield problem
    yield from records
    yield from expected.missing()
    counts = read_manifest(directory).counts
    exported = sum(image.exported for image in expected.images.values())
    for name, value in (("prompts", len(folder.prompts)), ("candidates", len(expected.images)),
                        ("exported", exported), ("rejected", dict(expected.reasons))):
        if counts.get(name) != value:
            yield f"{directory}: counts.{name}: expected {value}, from the run, found {counts.get(name)}"


@dataclasses.dataclass(slots=True)
class _Image:
    """What has been seen of an image that was asked for."""

    record_id: str
    sha256: str = ""  # as recorded, hexadecimal
    rejected: str = ""  # the reason
    exported: bool = False


class _Expected:
    """The images that there have to be, by the index of their prompt and the number of the candidate."""

    def __init__(self, folder: RunFolder):
        self._folder, self._prompts = folder, folder.prompts_file
        self.images = {(prompt.index, candidate): _Image(prompt.record_id(candidate))
                       for prompt in folder.prompts.values() for candidate in range(folder.num_candidates)}
        self.reasons: collections.Counter[str] = collections.Counter()

    def _find(self, index: Any, candidate: Any, record_id: str) -> _Image | None:
        if type(index) is not int or type(candidate) is not int:
            return None
        image = self.images.get((index, candidate))
        return image if image is not None and image.record_id == record_id else None

    def _unknown(self, place: object, record_id: str) -> str:
        return f"{place}: {record_id}: no such prompt and candidate in {self._prompts.name}"

    def see_images(self) -> Iterator[str]:
        """Every image that was recorded, and its checksum."""
        for unit in tqdm(self._folder.units, unit="unit", disable=None):
            chunk = self._folder.stage(GENERATE).chunk(unit)
            for line in self._folder.generated(unit):
                image = self._find(line.index, line.candidate, line.record_id)
                if image is None:
                    yield self._unknown(chunk, line.record_id)
                    continue
                if image.sha256:
                    yield f"{chunk}: {line.record_id}: is recorded twice"
                image.sha256 = line.image_sha256
                if image.rejected not in _NO_IMAGE:
                    yield from _verify_image(self._folder.root / GENERATE / line.image, line.image_sha256)

    def see_rejects(self) -> Iterator[str]:
        """Every image that became no record."""
        path = self._folder.root / "rejects" / "export-00000-of-00001.jsonl"
        if not path.exists():
            yield f"{path}: no such file; `export` lists there what became no record"
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    entry = json.loads(line)
                    image = self._find(entry["index"], entry["candidate"], entry["record_id"])
                    reason = str(entry["reason"])
                except (ValueError, KeyError, TypeError) as error:
                    yield f"{path}:{number}: expected a rejected image ({error!r})"
                    continue
                if image is None:
                    yield self._unknown(f"{path}:{number}", entry["record_id"])
                    continue
                if image.rejected:
                    yield f"{path}:{number}: {entry['record_id']}: is rejected twice"
                image.rejected = reason
                self.reasons[reason] += 1

    def see_record(self, record: RewardRecord, place: str) -> list[str]:
        """An exported record; returns what is wrong with it."""
        image = self._find(record.index, record.candidate, record.record_id)
        if image is None:
            return [self._unknown(place, record.record_id)]
        problems = [problem for wrong, problem in (
            (image.exported, "is exported twice"), (image.rejected, "is exported and rejected"),
            (image.sha256 != record.image_sha256.hex(), "image/sha256: is not that of the generated image"),
        ) if wrong]
        image.exported = True
        return [f"{place}: {record.record_id}: {problem}" for problem in problems]

    def missing(self) -> Iterator[str]:
        """Images that nothing accounts for."""
        for what, seen in (("generated", lambda image: image.sha256),
                           ("exported nor rejected", lambda image: image.exported or image.rejected)):
            absent = [place for place, image in self.images.items() if not seen(image)]
            for index, candidate in absent[:10]:
                yield (f"{self._prompts}: prompt with index {index}, candidate {candidate}: expected once, is not "
                       f"{what}")
            if len(absent) > 10:
                yield f"{self._prompts}: {len(absent) - 10} more are not {what}"


def _verify_image(path: epath.Path, expected: str) -> Iterator[str]:
    if not path.exists():
        yield f"{path}: recorded, but not there; `generate` makes it again"
    elif (found := file_sha256(path)) != expected:
        yield f"{path}: checksum: expected {expected}, found {found}"
