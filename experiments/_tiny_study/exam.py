"""Marks of a study's models, under the same prompts and noise; what was found is kept in files."""

import functools
import json
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from experiments._tiny_study.marks import Examiner, Marks, chosen, given_marks, load_marks, save_marks
from experiments._tiny_study.picture_grid import read_strip, write_strip
from experiments._tiny_study.sentences import VALIDATION_SEED, first_noise, held_out_prompts, validation_prompts
from experiments._tiny_study.steps import Study
from experiments._tiny_study.understanding import understanding
from srum_jax.storage.atomic_file import write_json
from srum_jax.worlds.shapes.scene import Prompt

# Ways of drawing.
GUIDED, COMMON = "guidance chosen for each model", "the candidates' guidance"
PLAIN, PLANNED = "without guidance", "with its own plan"
_ENDINGS = {GUIDED: "", COMMON: "-common", PLAIN: "-plain", PLANNED: "-planned"}  # of files
_SHOWN = 8  # pictures of a model that are kept to be looked at


class Exam:
    """The exam of a study: its prompts, its files."""

    def __init__(self, study: Study):
        settings = study.settings
        self.study = study
        common = (COMMON,) if len(settings.guidance) > 1 and not settings.new_sentences else ()
        self.ways = (GUIDED, *common, PLAIN, *((PLANNED,) if settings.think else ()))
        self.prompts = held_out_prompts(settings)
        self._shown = range(0, len(self.prompts), max(1, len(self.prompts) // _SHOWN))[:_SHOWN]  # of all categories
        self._validation = validation_prompts(settings)
        self._noise = first_noise(settings)

    def take(self, name: str, checkpoints: Sequence[epath.PathLike]) -> None:
        """Marks one model in every way, unless that was done before; prints what is found.

        Args:
          name: of the model in the tables.
          checkpoints: one for each seed. The first also chooses the guidance, and answers questions.
        """
        folder = self._folder(name)
        for seed, checkpoint in enumerate(checkpoints):
            examiner = functools.cache(functools.partial(Examiner, checkpoint, think=self.study.settings.think))
            if seed == 0:
                self._measure_first(folder, examiner)
            for way in self.ways:
                marks = load_marks(_marks_file(folder, seed, way), self.prompts)
                if marks is None:
                    guidance = self.guidance(name, way)
                    pictures = examiner().draw(self.prompts, guidance, self._noise + seed, planned=way == PLANNED)
                    if seed == 0:
                        write_strip(_strip_file(folder, way), [pictures[place] for place in self._shown])
                    marks = Marks.of(self.prompts, pictures)
                    save_marks(_marks_file(folder, seed, way), self.prompts, marks, guidance=guidance)
                print(f"seed {seed}, {self.title(way)}: {100 * marks.fit.mean():.1f} % fit, score "
                      f"{marks.score.mean():+.3f}, {100 * marks.well_formed.mean():.1f} % well formed", flush=True)

    def _measure_first(self, folder: epath.Path, examiner: Callable[[], Examiner]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        choice, answers = folder / "guidance.json", folder / "understanding.json"
        scales = self.study.settings.guidance
        if len(scales) > 1 and not choice.exists():
            write_json(choice, examiner().best_guidance(self._validation, scales, VALIDATION_SEED))
        if not answers.exists():
            write_json(answers, understanding(examiner().pipeline, self.study.settings.understanding_pictures))

    def guidance(self, name: str, way: str) -> float:
        """The guidance scale that a model is examined with."""
        if way == GUIDED and len(self.study.settings.guidance) == 1:
            return self.study.settings.guidance[0]
        if way == GUIDED:
            return chosen(self.validation_scores(name))
        return 1.0 if way == PLAIN else self.study.candidate_guidance

    def validation_scores(self, name: str) -> dict[str, float]:
        """The oracle's mean score on validation sentences, by guidance scale."""
        return json.loads((self._folder(name) / "guidance.json").read_text())

    def title(self, way: str) -> str:
        """What a way is called where there may be nothing to choose."""
        scales = self.study.settings.guidance
        return f"guidance {scales[0]:g}" if way == GUIDED and len(scales) == 1 else way

    def marks(self, name: str, way: str) -> list[Marks]:
        """What an exam found, for each seed.

        Raises:
          FileNotFoundError: it was not taken.
        """
        files = (_marks_file(self._folder(name), seed, way) for seed in range(self.study.settings.seeds))
        return [given_marks(path, self.prompts) for path in files]

    def understanding(self, name: str) -> dict[str, float]:
        """How well a model answered; see `understanding.understanding`."""
        return json.loads((self._folder(name) / "understanding.json").read_text())

    @property
    def shown_prompts(self) -> list[Prompt]:
        """Those whose pictures are kept."""
        return [self.prompts[place] for place in self._shown]

    def shown_pictures(self, name: str, way: str) -> list[np.ndarray]:
        """Uint8 [S, S, 3] each, of the first seed, for `shown_prompts`."""
        return read_strip(_strip_file(self._folder(name), way), len(self._shown))

    def _folder(self, name: str) -> epath.Path:
        return self.study.out / "marks" / name.replace(", ", "-").replace(" ", "-")


def _marks_file(folder: epath.Path, seed: int, way: str) -> epath.Path:
    return folder / f"{seed}{_ENDINGS[way]}.json"


def _strip_file(folder: epath.Path, way: str) -> epath.Path:
    return folder / f"pictures{_ENDINGS[way]}.png"
