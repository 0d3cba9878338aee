"""How good a model's pictures are: the oracle's marks, picture by picture, kept in a file."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
from etils import epath

from experiments._tiny_bases import measure
from experiments._tiny_bases.bases import base_of
from experiments._tiny_study.errors import SettingsError
from experiments._tiny_study.planned_drawing import PLAN
from experiments._tiny_think.plans import THINK_TEMPLATES
from srum_jax.inference.templates import Templates
from srum_jax.storage.atomic_file import write_json
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.scene import Prompt
from srum_jax.worlds.shapes.sight import WELL_FORMED

_PICTURES = 100_000  # more than an exam draws: no two of its seeds share noise


@dataclasses.dataclass(frozen=True)
class Marks:
    """Of one picture per prompt, in the order of the prompts."""

    fit: np.ndarray  # float64 [P]: 1 where the picture shows what was asked for
    score: np.ndarray  # float64 [P]: the oracle's global score, [-1, 1]
    well_formed: np.ndarray  # float64 [P]: 1 where it is crisp

    def only(self, chosen: Sequence[bool]) -> "Marks":
        """Those of some of the prompts."""
        return Marks(*(value[np.array(chosen)] for value in vars(self).values()))

    @classmethod
    def of(cls, prompts: Sequence[Prompt], pictures: Sequence[np.ndarray]) -> "Marks":
        """What the oracle says."""
        judged = [judge_image(prompt, picture) for prompt, picture in zip(prompts, pictures, strict=True)]
        return cls(np.array([float(j.correct) for j in judged]), np.array([float(j.global_score) for j in judged]),
                   np.array([float(j.well_formed >= WELL_FORMED) for j in judged]))


class Examiner:
    """Draws pictures with one model, and has them marked."""

    def __init__(self, checkpoint: epath.PathLike, *, think: bool = False):
        self.base = base_of(checkpoint)
        self.pipeline = measure.load_tiny(checkpoint, templates=Templates.read(THINK_TEMPLATES) if think else None)

    def draw(
        self, prompts: Sequence[Prompt], guidance: float, seed: int, *, planned: bool = False
    ) -> list[np.ndarray]:
        """One picture per prompt; the noise of picture k follows from `seed` and k alone.

        With `planned`, for which the examiner has to `think`, the model writes a plan for each first.
        """
        plan = PLAN if planned else None
        return measure.draw(self.pipeline, prompts, self.base.sampler(guidance), _PICTURES * seed, plan)

    def best_guidance(self, prompts: Sequence[Prompt], scales: Sequence[float], seed: int) -> dict[str, float]:
        """The oracle's mean score under each guidance scale, on prompts of the training set."""
        return {f"{scale:g}": float(Marks.of(prompts, self.draw(prompts, scale, seed)).score.mean())
                for scale in scales}


def chosen(scores: dict[str, float]) -> float:
    """The guidance scale with the best score; the smallest of equals."""
    return float(max(sorted(scores, key=float), key=lambda scale: scores[scale]))


def save_marks(path: epath.Path, prompts: Sequence[Prompt], marks: Marks, **more: float) -> None:
    """Writes marks with the prompts that they belong to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: value.tolist() for name, value in vars(marks).items()}
    write_json(path, {**more, "prompts": [prompt_text(prompt) for prompt in prompts], **values})


def load_marks(path: epath.Path, prompts: Sequence[Prompt]) -> Marks | None:
    """Marks that were saved for these prompts; None if there are none.

    Raises:
      SettingsError: they are those of other prompts.
    """
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    if found["prompts"] != [prompt_text(prompt) for prompt in prompts]:
        raise SettingsError(f"{path}: holds marks for other prompts; choose another --out.")
    return Marks(*(np.array(found[field.name]) for field in dataclasses.fields(Marks)))


def given_marks(path: epath.Path, prompts: Sequence[Prompt]) -> Marks:
    """As `load_marks`; raises FileNotFoundError if there are none."""
    marks = load_marks(path, prompts)
    if marks is None:
        raise FileNotFoundError(f"{path}: absent; this examination was not taken to its end.")
    return marks
