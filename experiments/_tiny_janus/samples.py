"""What the tiny Janus-Pro learns from: pictures to draw, and questions about other pictures.

Everything is drawn before training and kept: a CPU has no time to draw each sample once. Sample k is a function of the
seed and k alone; a step's batch is one of the seed and the number of the step.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from experiments._tiny_bagel.samples import QuestionAndAnswer, picture_of, question_and_answer
from experiments._tiny_bagel.settings import SampleSettings
from experiments._tiny_janus.settings import JanusJointSettings, JanusJudgeSettings
from srum_jax.families.janus_pro.batch import JanusBatch, Readings
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.prompts import Encode, answer_ids, generation_prompt, left_padded, understanding_prompt
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.questions import CAPTION_QUESTION, SCORE_LEVELS
from srum_jax.worlds.shapes.records import sample_example

Settings = JanusJointSettings | JanusJudgeSettings

# Streams of randomness, kept apart by the upper half of the seed.
_DRAW, _READ, _CHOOSE = (stream << 32 for stream in (11, 12, 13))
_KINDS = ("seen", "whole", "region", "caption")
PROMPT_TOKENS = 24  # of a caption, with what is put around it


@dataclasses.dataclass(frozen=True)
class Samples:
    """All samples, as fields of slots (see `JanusBatch` and `Readings`)."""

    ids: np.ndarray  # int32 [N, T]
    length: np.ndarray  # int32 [N]
    codes: np.ndarray  # int32 [N, C]
    readings: Readings  # fields [M, ...]


def all_samples(
    seed: int, settings: Settings, lessons: Sequence[QuestionAndAnswer], config: JanusConfig, encode: Encode,
    codes_of: Callable[[np.ndarray], jax.Array], first: int = 0, score_weight: float = 1.0,
) -> Samples:
    """Draws everything.

    Args:
      seed: of the run.
      settings: of the stage.
      lessons: its questions.
      config: of the model.
      encode: its tokenizer.
      codes_of: pictures uint8 [B, S, S, 3] to codes int32 [B, C].
      first: number of the first picture to draw; another stage has drawn those before.
      score_weight: of the token that states a score, times that of the others of its answer.
    """
    drawings = min(settings.drawings, settings.steps * settings.pictures)  # no more than the steps can choose
    drawn = [sample_example(seed + _DRAW, number, settings.wrong_captions, tidy=True)
             for number in range(first, first + drawings)]
    tokens = config.special_tokens
    prompts = [generation_prompt(prompt_text(example.prompt), encode, tokens) for example in drawn]
    ids, real = left_padded(prompts, PROMPT_TOKENS, tokens.pad)
    codes = [np.asarray(codes_of(np.stack([picture_of(example) for example in part]))) for part in _parts(drawn)]
    return Samples(ids, real.sum(axis=1).astype(np.int32), np.concatenate(codes),
                   _readings(lessons, config, encode, score_weight))


def joint_lessons(seed: int, settings: JanusJointSettings) -> list[QuestionAndAnswer]:
    """What the joint stage asks."""
    readings = min(settings.readings, settings.steps * settings.questions)
    return [lesson_of(seed, number, settings) for number in range(readings)]


def lesson_of(seed: int, number: int, settings: JanusJointSettings) -> QuestionAndAnswer:
    """A question about a drawn picture with its right answer; pictures of captions have no mistakes."""
    rng = np.random.Generator(np.random.Philox(key=[seed + _READ, number]))
    kind, tidy = _KINDS[rng.choice(len(_KINDS), p=settings.shares)], bool(rng.random() < settings.tidy)
    if kind == "caption":
        example = sample_example(seed + _READ, number, 0.0, tidy=tidy)
        return QuestionAndAnswer(kind, picture_of(example), CAPTION_QUESTION, prompt_text(example.prompt))
    shares = SampleSettings(wrong_pictures=settings.wrong_pictures, strange_prompts=settings.strange_prompts)
    return question_and_answer(seed + _READ, number, shares, rng, kind=kind, tidy=tidy)


def _readings(
    lessons: Sequence[QuestionAndAnswer], config: JanusConfig, encode: Encode, score_weight: float
) -> Readings:
    stated = [encode(str(level))[0] for level in SCORE_LEVELS]
    tokens, places = config.special_tokens, config.vision.num_tokens
    asked = [understanding_prompt(lesson.question, 1, places, encode, tokens) for lesson in lessons]
    said = [answer_ids(lesson.answer, encode, tokens) for lesson in lessons]
    width, predicted = max(len(a) + len(b) for a, b in zip(asked, said, strict=True)), max(map(len, said))
    found = Readings(
        sample=np.zeros(len(lessons), np.int32), ids=np.full((len(lessons), width), tokens.pad, np.int32),
        length=np.zeros(len(lessons), np.int32), views=np.stack([lesson.picture for lesson in lessons]),
        **{name: np.zeros((len(lessons), predicted), np.int32) for name in ("answer_index", "answer_ids")},
        answer_weights=np.zeros((len(lessons), predicted), np.float32),
    )
    for row, (question, answer) in enumerate(zip(asked, said, strict=True)):
        length, count = len(question) + len(answer), len(answer)
        found.ids[row, :length], found.length[row] = [*question, *answer], length
        found.answer_index[row, :count] = np.arange(len(question) - 1, length - 1)
        found.answer_ids[row, :count] = answer
        found.answer_weights[row, :count] = count**-0.5 * np.where(np.isin(answer, stated), score_weight, 1.0)
    return found


def batch_of(seed: int, step: int, samples: Samples, settings: Settings, pad: int) -> JanusBatch:
    """One row with the slots of a step; some of its captions are left out."""
    rng = np.random.Generator(np.random.Philox(key=[seed + _CHOOSE, step]))
    drawn = rng.integers(0, len(samples.ids), settings.pictures)
    read = rng.integers(0, len(samples.readings.ids), settings.questions)
    ids, length = samples.ids[drawn].copy(), samples.length[drawn]
    place = np.arange(ids.shape[1])[None] - (ids.shape[1] - length[:, None])
    inner = (place > 0) & (np.arange(ids.shape[1])[None] < ids.shape[1] - 1)
    left_out = rng.random(len(ids)) < settings.text_dropout
    ids[inner & left_out[:, None]] = pad
    readings = jax.tree.map(lambda values: values[read], samples.readings)
    readings = dataclasses.replace(readings, sample=np.arange(len(read), dtype=np.int32))
    batch = JanusBatch(
        sample=np.arange(len(drawn), dtype=np.int32), ids=ids, length=length,
        pixels=np.zeros((len(drawn), 0, 0, 3), np.uint8), codes=samples.codes[drawn], image_columns={},
        readings=readings, text_columns={}, num_samples=len(drawn) + len(read),
    )
    return jax.tree.map(lambda values: values[None], batch)


def _parts(items: Sequence, size: int = 256) -> Iterator[Sequence]:
    return (items[first : first + size] for first in range(0, len(items), size))
