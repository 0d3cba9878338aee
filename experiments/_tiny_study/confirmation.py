"""A second examination of a study's models: more held-out sentences, several pictures of each, best guidance alone.

Nothing is chosen anew: models and their guidance are those of the first examination. What was found is kept in files.
"""

import numpy as np
from etils import epath

from experiments._tiny_study.exam import GUIDED, Exam
from experiments._tiny_study.marks import Examiner, Marks, given_marks, load_marks, save_marks
from experiments._tiny_study.sentences import confirmation_noise, confirmation_prompts, examined_texts
from experiments._tiny_study.statistics import Interval, clustered_interval
from experiments._tiny_study.steps import Study
from experiments._tiny_study.table import stacked
from srum_jax.worlds.shapes.prompts import prompt_text

PICTURES = 4  # of a sentence


class Confirmation:
    """The second examination of a study.

    Attributes:
      texts: [P], the sentence of each picture; `PICTURES` of each, more where a category has too few sentences.
      categories: [P].
      fresh: bool [P], whether the sentence is in no earlier examination, that of the tiny study included.
    """

    def __init__(self, study: Study):
        self.study, self._first = study, Exam(study)
        self._prompts = [prompt for prompt in confirmation_prompts(study.settings) for _ in range(PICTURES)]
        self.texts = np.array([prompt_text(prompt) for prompt in self._prompts])
        self.categories = np.array([prompt.category for prompt in self._prompts])
        known = examined_texts(study.settings)
        self.fresh = np.array([text not in known for text in self.texts])

    def take(self, name: str, seed: int, checkpoint: epath.PathLike) -> None:
        """Marks the model of one run, unless that was done before; prints what is found.

        Args:
          name: of the model, whose guidance the first examination has chosen.
          seed: of the run. Its noise is the same for all models.
          checkpoint: of the model.
        """
        marks = load_marks(self._file(name, seed), self._prompts)
        if marks is None:
            guidance = self.guidance(name)
            noise = confirmation_noise(self.study.settings) + seed
            marks = Marks.of(self._prompts, Examiner(checkpoint).draw(self._prompts, guidance, noise))
            save_marks(self._file(name, seed), self._prompts, marks, guidance=guidance)
        print(f"{100 * self.interval(marks.fit[None]).mean:.1f} % fit, {100 * marks.well_formed.mean():.1f} % well "
              "formed", flush=True)

    def guidance(self, name: str) -> float:
        """The guidance scale that a model is examined with."""
        return self._first.guidance(name, GUIDED)

    def fits(self, name: str) -> np.ndarray:
        """Float64 [S, P]: 1 where the picture shows what was asked for, for each run.

        Raises:
          FileNotFoundError: the examination was not taken.
        """
        files = (self._file(name, seed) for seed in range(self.study.settings.seeds))
        return stacked([given_marks(path, self._prompts) for path in files], "fit")

    def interval(self, values: np.ndarray, among: np.ndarray | slice = slice(None)) -> Interval:
        """Of marks or of their differences, [S, P]; `among`: bool [P], pictures that count."""
        return clustered_interval(values[:, among], self.texts[among], self.categories[among])

    def _file(self, name: str, seed: int) -> epath.Path:
        return self.study.out / "confirmation" / f"{name}-{seed}.json"
