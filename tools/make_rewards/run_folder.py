"""A run whose images are all there, and what the stages after `generate` read and write in its folder."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from srum_jax.data.image_transform import to_rgb
from srum_jax.errors import BadInput
from srum_jax.generation.prompts import Prompt, read_jsonl
from srum_jax.generation.records import GenerationRecord
from srum_jax.generation.run_file import PROMPTS
from srum_jax.stages import GENERATE, JUDGE, LIKELIHOOD, SEGMENT, STAGE_VERSION
from srum_jax.stages.folder import DamagedError, StageFolder, by_shard
from srum_jax.stages.processes import ALONE, Processes
from srum_jax.stages.units import units_to_do
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.storage.reading import why_absent
from tools.make_rewards.errors import Reject, usable_image
from tools.make_rewards.line_fields import check_line

_STATED = {GENERATE: ("num_shards", int), SEGMENT: ("provider", str), LIKELIHOOD: ("request", str),
           JUDGE: ("judge", dict)}  # by what a stage notes


@dataclasses.dataclass(frozen=True)
class StageUnit:
    """Images that `generate` made and committed together; they are judged together."""

    number: int  # among all units of the run
    shard: int
    name: str


class Place(NamedTuple):
    """Where the lines of an image stand. Places sort by prompt and candidate."""

    index: int  # of the prompt
    candidate: int
    unit: int  # number of the unit
    row: int  # in the chunks of the unit


class RunFolder:
    """A folder that `generate` has completed.

    Attributes:
      root: of the run.
      settings: what `generate` was begun with.
      units: of the run.
    """

    def __init__(self, root: epath.PathLike, processes: Processes = ALONE):
        """Finds what there is.

        Args:
          root: the --out of `generate`.
          processes: that share the units, and which of them this is.

        Raises:
          BadInput: it is no such folder; or it is not complete.
          DamagedError: a file was changed.
        """
        self.root = epath.Path(root)
        self._generate = StageFolder(self.root, GENERATE, 1, processes)
        self.settings = self.settings_of(GENERATE)
        if self.settings is None:
            raise BadInput(f"--out {root}: expected a folder that `generate` has made (run.json), found none.")
        self._generate = StageFolder(self.root, GENERATE, self.settings["num_shards"], processes)
        self.units = self._units()
        # Neighbouring prompts lie in different shards: some units of every shard are at hand at any time.
        self._unit = functools.lru_cache(maxsize=4 * self.num_shards)(self._read_unit)

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage."""
        return self._generate.of(name)

    @property
    def num_shards(self) -> int:
        """Of the run."""
        return self._generate.num_shards

    @property
    def prompts_file(self) -> epath.Path:
        """What `generate` was asked for."""
        return self.root / PROMPTS

    def settings_of(self, stage: str) -> Mapping[str, Any] | None:
        """What a stage was begun with; None if it was not.

        Raises:
          DamagedError: the file holds something else.
        """
        path, (field, kind) = self.stage(stage).settings, _STATED[stage]
        if not path.exists():
            return None
        try:
            settings = json.loads(path.read_bytes())
            if not isinstance(settings, dict) or type(settings.get(field)) is not kind:
                raise ValueError(f"with a field '{field}'")
        except ValueError as error:
            raise DamagedError(f"{path}: expected the settings of `{stage}` ({error}); it was changed.") from error
        return settings

    @property
    def num_candidates(self) -> int:
        """Images per prompt.

        Raises:
          DamagedError: run.json does not say.
        """
        count = self.settings.get("generate", {}).get("settings", {}).get("num_candidates")
        if type(count) is not int or count < 1:
            raise DamagedError(f"{self._generate.settings}: field 'generate.settings.num_candidates': expected a "
                               f"positive number, found {count!r}.")
        return count

    @functools.cached_property
    def prompts(self) -> dict[int, Prompt]:
        """By index.

        Raises:
          DamagedError: the file of prompts was changed.
        """
        try:
            prompts = read_jsonl(self.prompts_file)
        except (ValueError, OSError) as error:
            raise DamagedError(f"{error}") from error
        stated, found = self.settings.get("prompts", {}).get("sha256"), file_sha256(self.prompts_file)
        if found != stated:
            raise DamagedError(f"{self.prompts_file}: checksum: expected {stated}, from run.json, found {found}; "
                               "it was changed after it was written.")
        return {prompt.index: prompt for prompt in prompts}

    def prompt(self, generation: GenerationRecord) -> Prompt:
        """That an image was made from.

        Raises:
          DamagedError: the line of the image names another one.
        """
        prompt = self.prompts.get(generation.index)
        if prompt is None or prompt.record_id(generation.candidate) != generation.record_id:
            raise DamagedError(f"{generation.record_id}: expected a prompt and candidate of {self.prompts_file}, "
                               f"found index {generation.index} and candidate {generation.candidate}; a chunk "
                               "was changed after it was written. `generate --repair` makes it again.")
        return prompt

    def lines(self, stage: str, unit: StageUnit, expected: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """What a stage wrote of a unit; see `StageFolder.lines`."""
        return self.stage(stage).lines(unit, functools.partial(check_line, stage), expected)

    def generated(self, unit: StageUnit) -> list[GenerationRecord]:
        """What `generate` wrote of a unit; see `StageFolder.lines`."""
        return [GenerationRecord.from_json(line) for line in self._generate.lines(unit, GenerationRecord.from_json)]

    def places(self) -> list[Place]:
        """All images in the order of prompts and candidates."""
        return sorted(Place(line.index, line.candidate, unit.number, row)
                      for unit in self.units for row, line in enumerate(self.generated(unit)))

    def lines_of(self, place: Place) -> tuple[GenerationRecord, dict[str, Any] | None, dict[str, Any] | None]:
        """What `generate`, `segment` and `judge` wrote of an image; None where a stage has not done its unit.

        Raises:
          DamagedError: naming the chunk.
        """
        return self._unit(place.unit)[place.row]

    def _read_unit(self, number: int) -> list[tuple[GenerationRecord, dict | None, dict | None]]:
        unit = self.units[number]
        generated = self.generated(unit)
        ids = [record.record_id for record in generated]
        later = (self.lines(stage, unit, ids) if self.stage(stage).chunk(unit).exists() else [None] * len(ids)
                 for stage in (SEGMENT, JUDGE))
        return list(zip(generated, *later, strict=True))

    def units_to_do(self, stage: str, *, repair: bool = False, again: Collection[int] = ()) -> list[StageUnit]:
        """The units of this process that are not committed. Checks those that are; see `stages.units.units_to_do`.

        Raises:
          BadInput: an earlier stage has not been run.
          DamagedError: naming a chunk that was changed, and `repair` is false.
        """
        # Outside: what an earlier stage wrote is not made again here.
        share = self._generate.processes.share(self.units)
        ids = {unit.number: [record.record_id for record in self.generated(unit)] for unit in share}
        return units_to_do(share, self.stage(stage), lambda unit: bool(self.lines(stage, unit, ids[unit.number])),
                           repair=repair, again=again)

    def finish(
        self, stage: str, summarise: Callable[[Iterator[dict[str, Any]]], Mapping[str, Any]]
    ) -> Mapping[str, Any] | None:
        """Marks complete shards; if all are, writes the summary of all records and returns it."""
        return self.stage(stage).finish(
            by_shard(self.units), lambda: summarise(line for unit in self.units for line in self.lines(stage, unit)))

    def read_image(self, generation: GenerationRecord) -> tuple[bytes, np.ndarray]:
        """The stored file of a generated image, and its pixels uint8 [H, W, 3].

        Raises:
          Reject: it is absent, unreadable or too small.
          DamagedError: it is a readable image, but not the one that was recorded.
        """
        path = self.root / GENERATE / generation.image
        if not path.exists():
            raise Reject("missing_image", f"{path.name}: recorded, but {why_absent(path)}; run `generate` again")
        encoded = path.read_bytes()
        image = usable_image(encoded, path.name)
        if hashlib.sha256(encoded).hexdigest() != generation.image_sha256:
            raise DamagedError(f"{path}: expected the file with SHA-256 {generation.image_sha256[:12]}..., found "
                               "another; `generate --repair` sets it aside and makes it again.")
        return encoded, np.asarray(to_rgb(image))

    def _units(self) -> list[StageUnit]:
        named = []
        for shard in range(self.num_shards):
            path = self._generate.done(shard)
            if not path.exists():
                raise BadInput(f"{path}: expected all shards of `{GENERATE}` to be complete; run `{GENERATE}` "
                                    "again, in all its processes.")
            try:
                named += [(shard, name.removesuffix(".jsonl")) for name in json.loads(path.read_bytes())["chunks"]]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DamagedError(f"{path}: expected a list of chunks ({error}); it was changed.") from error
        return [StageUnit(number, shard, name) for number, (shard, name) in enumerate(named)]


def rejected(record_id: str, reject: Reject) -> dict[str, Any]:
    """The line of an image that a stage could not use; later stages pass it on."""
    return {"record_id": record_id, "rejected": {"reason": reject.reason, "detail": reject.detail},
            "stage_version": STAGE_VERSION}
