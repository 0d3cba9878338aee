"""Which sentences a study draws for, which choose the guidance, and which are held out."""

from experiments._tiny_rewards import SEED
from experiments._tiny_study.settings import StudySettings
from srum_jax.worlds.shapes.prompt_set import balanced_prompts
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.scene import Prompt

_HELD_OUT_SEED, VALIDATION_SEED = 1001, 1002
_NEW = 1000  # what is added to a seed for sentences that are new
_TINY_STUDY_PER_CATEGORY = 60


def held_out_prompts(settings: StudySettings) -> list[Prompt]:
    """What models are examined on. New ones: those that the tiny study had come last."""
    if not settings.new_sentences:
        return balanced_prompts(settings.evaluation_prompts_per_category, _HELD_OUT_SEED, held_out=True)
    return balanced_prompts(settings.evaluation_prompts_per_category, _HELD_OUT_SEED + _NEW, held_out=True,
                            last=tiny_study_texts())


def confirmation_prompts(settings: StudySettings) -> list[Prompt]:
    """Twice as many, for a second examination: those that the tiny study or the first examination had come last."""
    return balanced_prompts(2 * settings.evaluation_prompts_per_category, _HELD_OUT_SEED + 2 * _NEW, held_out=True,
                            last=examined_texts(settings))


def examined_texts(settings: StudySettings) -> set[str]:
    """Held-out sentences whose results were known when the second examination was planned."""
    return tiny_study_texts() | _texts(held_out_prompts(settings))


def tiny_study_texts() -> set[str]:
    """Held-out sentences of the tiny study, whose results were known when later studies were made."""
    return _texts(balanced_prompts(_TINY_STUDY_PER_CATEGORY, _HELD_OUT_SEED, held_out=True))


def validation_prompts(settings: StudySettings) -> list[Prompt]:
    """Sentences of the training set on which guidance is chosen."""
    seed = VALIDATION_SEED + _NEW * settings.new_sentences
    return balanced_prompts(settings.validation_prompts_per_category, seed, held_out=False)


def training_prompts(settings: StudySettings, number: int) -> list[Prompt]:
    """What candidates of a round are drawn for, from round 1. New ones: those of validation and earlier rounds last."""
    count = settings.prompts_per_category
    if not settings.new_sentences:
        return balanced_prompts(count, SEED + number, held_out=False)
    earlier = _texts(validation_prompts(settings))
    for before in range(1, number):
        earlier |= _texts(training_prompts(settings, before))
    return balanced_prompts(count, SEED + _NEW + number, held_out=False, last=earlier)


def first_noise(settings: StudySettings) -> int:
    """Seed of the first run's noise on held-out sentences."""
    return 10 * settings.new_sentences


def confirmation_noise(settings: StudySettings) -> int:
    """The same of the second examination."""
    return 100 + first_noise(settings)


def _texts(prompts: list[Prompt]) -> set[str]:
    return {prompt_text(prompt) for prompt in prompts}
