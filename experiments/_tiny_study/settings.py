"""The size of a study."""

import dataclasses

from experiments._tiny_study.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """The size of a study."""

    prompts_per_category: int = 96  # that candidates are drawn for
    candidates: int = 2  # per prompt
    candidate_guidance: float | None = None  # that they are drawn with; None: that of the base
    steps: int = 300  # of each training run
    learning_rate: float = 1e-4
    rows_per_batch: int = 16  # two pictures each
    seeds: int = 3  # training runs of a variant
    evaluation_prompts_per_category: int = 60  # held out
    validation_prompts_per_category: int = 12  # training sentences, for the choice of guidance
    understanding_pictures: int = 128  # held out, drawn, that each model is asked about
    guidance: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # scales to choose from
    new_sentences: bool = False  # held-out ones that the tiny study has not had, and other noise
    think: bool = False  # candidates are planned first, and models are examined with plans too

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(field.default) in (int, float) and not 0 < value < float("inf"):
                raise SettingsError(f"{field.name}: expected a positive number, found {value!r}.")
