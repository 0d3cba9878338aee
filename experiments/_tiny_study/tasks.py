"""What a process of a study is told to do."""

import dataclasses
import json
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Training:
    """One model to be trained; see `Study.model`."""

    variant: str
    seed: int
    records: str  # directory of records
    start: str  # checkpoint
    name: str

    @property
    def label(self) -> str:
        """For a reader of the output."""
        return f"train {self.name}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Examination:
    """One model to be marked; see `Exam.take`."""

    name: str
    checkpoints: tuple[str, ...]  # one for each seed

    @property
    def label(self) -> str:
        """For a reader of the output."""
        return f"mark {self.name}"


@dataclasses.dataclass(frozen=True)
class SecondExamination:
    """One run's model to be marked again; see `Confirmation.take`."""

    name: str
    seed: int
    checkpoint: str

    @property
    def label(self) -> str:
        """For a reader of the output."""
        return f"mark {self.name} again, seed {self.seed}"


Task = Training | Examination | SecondExamination
_KINDS = {"train": Training, "mark": Examination, "mark again": SecondExamination}


def to_json(tasks: Sequence[Task]) -> str:
    """For a command line."""
    names = {kind: name for name, kind in _KINDS.items()}
    return json.dumps([[names[type(task)], dataclasses.asdict(task)] for task in tasks])


def from_json(text: str) -> list[Task]:
    """The inverse of `to_json`."""
    return [_KINDS[kind](**arguments) for kind, arguments in json.loads(text)]
