"""What a run has written so far, image by image, whether or not its stages are complete."""

import collections
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.generation.records import GenerationRecord
from srum_jax.stages import EXPORT, GENERATE, JUDGE, SEGMENT
from srum_jax.stages.folder import DamagedError
from tools.make_rewards.run_folder import Place, RunFolder, StageUnit

_UNIT = re.compile(r"\d+-c\d+")  # name of a unit that `generate` made


class Candidate(NamedTuple):
    """One image, and what each stage says of it."""

    generation: GenerationRecord
    segmentation: dict[str, Any] | None  # None: the stage has not done it
    judgement: dict[str, Any] | None  # likewise
    rejected: dict[str, Any] | None  # "stage", "reason" and "detail"; None: no stage has rejected it
    exported: bool


class CommittedRun(RunFolder):
    """A run as far as it has come: its units are the committed chunks, even those of incomplete shards."""

    def __init__(self, root: epath.PathLike):
        """Finds what there is.

        Raises:
          BadInput: this is no folder of a run.
          DamagedError: a file is not as it was written.
        """
        if not (epath.Path(root) / "run.json").exists():
            raise BadInput(f"{root}: expected the folder of a run (with run.json, as srum_jax.generate makes it), "
                                "found none.")
        super().__init__(root)
        self.exported = (self.root / EXPORT / "manifest.json").exists()
        self._rejects = {line["record_id"]: line for line in self._reject_lines(EXPORT)} if self.exported else {}

    @property
    def done(self) -> dict[str, int]:
        """How many images each stage has done."""
        return {stage: sum(len(self.generated(unit)) for unit in self.units if self.stage(stage).chunk(unit).exists())
                for stage in (GENERATE, SEGMENT, JUDGE)}

    def candidate(self, place: Place) -> Candidate:
        """What the stages say of an image.

        Raises:
          DamagedError: naming the chunk.
        """
        generation, segmentation, judgement = self.lines_of(place)
        rejected = None
        for stage, entry in ((SEGMENT, segmentation), (JUDGE, judgement)):
            if rejected is None and entry is not None and "rejected" in entry:
                rejected = {"stage": stage, **entry["rejected"]}
        if rejected is None and generation.record_id in self._rejects:
            line = self._rejects[generation.record_id]
            rejected = {name: line[name] for name in ("stage", "reason", "detail")}
        return Candidate(generation, segmentation, judgement, rejected, self.exported and rejected is None)

    def prompts_left_out(self) -> Mapping[str, int]:
        """How many rows of the prompt file gave no image, by reason."""
        return collections.Counter(line["reason"] for line in self._reject_lines(GENERATE))

    def _units(self) -> list[StageUnit]:
        found = sorted((int(chunk.parent.name.partition("-")[0]), chunk.stem) for chunk in self._generate.committed()
                       if _UNIT.fullmatch(chunk.stem))  # not a copy beside it
        return [StageUnit(number, shard, name) for number, (shard, name) in enumerate(found)]

    def _reject_lines(self, stage: str) -> Iterator[dict[str, Any]]:
        folder = self.root / "rejects"
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            if not path.name.startswith(f"{stage}-") or not path.name.endswith(".jsonl"):
                continue
            for number, text in enumerate(path.read_bytes().splitlines(), start=1):
                try:
                    line = json.loads(text)
                    wanted = {"stage", "reason", "detail"} | ({"record_id"} if stage == EXPORT else set())
                    if absent := sorted(wanted - line.keys()):
                        raise KeyError(absent[0])
                except (ValueError, KeyError, AttributeError) as error:
                    raise DamagedError(f"{path}:{number}: expected a rejected record ({error}); it was changed after "
                                       "it was written.") from error
                yield line
