"""Training rows of the base: pictures to generate, and questions about other pictures.

A row is a function of (seed, number of the row) alone, so a run that is interrupted goes on with the same rows.

    generate     caption, picture              a known share of captions is wrong by one attribute, count or relation
    understand   picture, question, answer     answers are the oracle's, always right

The two kinds lie in batches of their own, as short as each can be: attention over rows of both would cost twice as
much, and time is what a CPU lacks.
"""

import dataclasses
import functools

import jax
import numpy as np

from experiments._tiny_bagel.settings import SampleSettings
from srum_jax.data.example import stack_rows
from srum_jax.data.image_transform import to_unit_range
from srum_jax.families.bagel.packing import RowCapacity, pack_row
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, PackedSample, TextItem, VitItem, pack_sample
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.patchify import patchify
from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes import questions
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.oracle import judge_scene
from srum_jax.worlds.shapes.prompts import prompt_text, sample_prompt
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.records import Example, sample_example
from srum_jax.worlds.shapes.tokenizer import SPECIAL_TOKENS, build_tokenizer

# Streams of randomness, kept apart by the upper half of the seed.
_GENERATE, _UNDERSTAND, _GENERATE_DRAWS, _UNDERSTAND_DRAWS = (stream << 32 for stream in range(4))


@dataclasses.dataclass(frozen=True)
class QuestionAndAnswer:
    """One lesson in understanding."""

    kind: str  # "seen", "whole" or "region"
    picture: np.ndarray  # uint8 [S, S, 3]
    question: str
    answer: str


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoBatches:
    """What one step learns from."""

    generate: PackedBatch
    understand: PackedBatch


def capacities(config: BagelConfig) -> tuple[RowCapacity, RowCapacity]:
    """Buffers that hold any row to generate, and any row to understand."""
    generate = RowCapacity(
        text=20, vit=0, latent=(PICTURE_SIZE // config.latent_stride) ** 2, ce=0, images=1,
        image_height=PICTURE_SIZE, image_width=PICTURE_SIZE, latent_stride=config.latent_stride,
    )
    understand = RowCapacity(
        text=44, vit=config.vit.num_positions, latent=0, ce=29, images=0, image_height=PICTURE_SIZE,
        image_width=PICTURE_SIZE, latent_stride=config.latent_stride, patch_values=config.vit.patch_values,
    )
    return generate, understand


def batches_of(
    seed: int, step: int, rows: tuple[int, int], config: BagelConfig, settings: SampleSettings
) -> TwoBatches:
    """What a step learns from.

    Args:
      seed: of the run.
      step: counted from 0.
      rows: pictures to generate, questions to answer.
      config: of the model.
      settings: shares.
    """
    return TwoBatches(
        generate=pictures_of(seed, step, rows[0], config, settings),
        understand=questions_of(seed, step, rows[1], config, settings),
    )


def questions_of(seed: int, step: int, rows: int, config: BagelConfig, settings: SampleSettings) -> PackedBatch:
    """The questions that a step learns to answer; arguments as for `batches_of`."""
    _, capacity = capacities(config)
    lessons = []
    for number in range(step * rows, (step + 1) * rows):
        lesson = question_and_answer(seed, number, settings, _rng_of(seed + _UNDERSTAND_DRAWS, number))
        lessons.append(pack_row([understanding_sample(lesson, config)], capacity))
    return stack_rows(lessons)


def pictures_of(
    seed: int, step: int, rows: int, config: BagelConfig, settings: SampleSettings, *, tidy: bool = False
) -> PackedBatch:
    """The pictures that a step learns to generate, tidy ones or any; other arguments as for `batches_of`."""
    capacity, _ = capacities(config)
    samples = (
        generation_sample(seed, number, config, settings, _rng_of(seed + _GENERATE_DRAWS, number), tidy=tidy)
        for number in range(step * rows, (step + 1) * rows)
    )
    return stack_rows([pack_row([sample], capacity) for sample in samples])


def _rng_of(stream: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[stream, number]))


def generation_sample(
    seed: int, number: int, config: BagelConfig, settings: SampleSettings, rng: np.random.Generator, *,
    tidy: bool = False,
) -> PackedSample:
    """A caption and its picture; a caption is wrong where the picture was given a mistake."""
    example = sample_example(seed + _GENERATE, number, settings.wrong_captions, tidy=tidy)
    side = PICTURE_SIZE // config.latent_stride
    plan = [
        TextItem(words(prompt_text(example.prompt)), droppable=True),
        LatentItem(picture_of(example), (side, side), position_ids(side, side, config.max_latent_size), loss=True),
    ]
    return pack_sample(plan, SPECIAL_TOKENS, Dropout(text=settings.text_dropout), rng)


def understanding_sample(lesson: QuestionAndAnswer, config: BagelConfig) -> PackedSample:
    """Picture, question and answer in the layout in which questions are asked at inference."""
    side = PICTURE_SIZE // config.vit.patch_size
    patches = patchify(to_unit_range(lesson.picture), config.vit.patch_size)
    plan = [
        VitItem(patches, position_ids(side, side, config.vit_max_num_patch_per_side)),
        TextItem(words(lesson.question)),
        TextItem(words(lesson.answer), loss=True),
    ]
    return pack_sample(plan, SPECIAL_TOKENS, Dropout(), np.random.default_rng(0))  # nothing is drawn


def question_and_answer(
    seed: int, number: int, settings: SampleSettings, rng: np.random.Generator, *, kind: str | None = None,
    tidy: bool = False,
) -> QuestionAndAnswer:
    """A question about a drawn picture with its right answer.

    Args:
      seed: of the picture.
      number: of the picture.
      settings: shares.
      rng: for everything else.
      kind: "seen", "whole" or "region"; None: by their shares.
      tidy: places and sizes follow from the prompt.
    """
    example = sample_example(seed + _UNDERSTAND, number, settings.wrong_pictures, tidy=tidy)
    prompt = example.prompt
    if rng.random() < settings.strange_prompts:
        prompt = sample_prompt(rng, prompt.category)
    judgement, text = judge_scene(prompt, example.scene, PICTURE_SIZE), prompt_text(prompt)
    kind = kind or ("seen", "whole", "region")[rng.choice(3, p=settings.shares)]
    picture = picture_of(example)
    if kind == "seen":
        return QuestionAndAnswer(kind, picture, questions.SEEN_QUESTION, questions.seen_answer(judgement))
    if kind == "whole":
        return QuestionAndAnswer(kind, picture, questions.whole_question(text), questions.whole_answer(judgement))
    region = judgement.regions[rng.integers(len(judgement.regions))]
    box = region.box
    if rng.random() < settings.shaken_boxes:
        box = Box(*(int(value) for value in np.asarray(tuple(box)) + rng.integers(-1, 2, 4)))
    return QuestionAndAnswer(
        kind, picture, questions.region_question(text, box), questions.region_answer(region)
    )


def picture_of(example: Example) -> np.ndarray:
    """Uint8 [S, S, 3]."""
    return render(example.scene, PICTURE_SIZE).image


@functools.lru_cache(maxsize=1)
def _tokenizer():
    return build_tokenizer()


def words(text: str) -> list[int]:
    """Token ids of a text."""
    return _tokenizer().encode(text).ids
