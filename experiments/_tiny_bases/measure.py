"""Measures a model of the shapes world with the oracle: its autoencoder, its generator, its judge and its captions.

Everything runs through `srum_jax.pipeline`, as a user's own pictures do.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from experiments._tiny_bases.bases import TinyBase, base_of
from srum_jax.errors import BadInput
from srum_jax.inference.requests import ImageRequest, Question
from srum_jax.inference.settings import TextSampler
from srum_jax.pipeline import Pipeline, load
from srum_jax.worlds.shapes import questions
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.oracle import Judgement, judge_image, judge_scene
from srum_jax.worlds.shapes.prompts import parse_prompt, prompt_text, sample_prompt
from srum_jax.worlds.shapes.questions import CAPTION_QUESTION, PICTURE_SIZE
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.scene import CATEGORIES, Prompt
from srum_jax.worlds.shapes.sight import WELL_FORMED

GUIDANCE = (1.0, 1.5, 2.0, 3.0)
_BATCH = 64
_ANSWER = TextSampler(max_tokens=40)


@dataclasses.dataclass(frozen=True)
class PictureMetrics:
    """Shares in [0, 1] of a set of pictures."""

    count: int
    well_formed: float  # pictures that are crisp, whatever they show
    fit: float  # pictures that show what was asked for
    fit_by_category: dict[str, float]


@dataclasses.dataclass(frozen=True)
class JudgeMetrics:
    """How well answers agree with the oracle."""

    count: int  # pictures
    readable: float  # share of answers that state a score
    accuracy: float  # of "fits" (the best score) against "does not fit"
    precision: float  # of "fits"
    recall: float
    auc: float  # of the score, for pictures that fit against those that do not; 0.5 is chance
    correlation: float  # of the score with the oracle's
    regions: int
    region_accuracy: float  # of the best score against all others
    region_auc: float
    object_named: float  # share of regions whose object is named as the oracle sees it, all attributes


@dataclasses.dataclass(frozen=True)
class CaptionMetrics:
    """Shares in [0, 1] of captions, greedily decoded."""

    count: int
    readable: float  # sentences of the grammar
    right: float  # sentences that the picture shows in everything
    same: float  # the very sentence that the picture was drawn for


def measure_base(checkpoint: epath.PathLike, images: int, seed: int = 77) -> dict[str, Any]:
    """What the oracle says of a base, on training prompts for the choice of guidance and on held-out prompts.

    Args:
      checkpoint: of the base, or of a model that was trained from it.
      images: pictures for each measurement, spread over the categories.
      seed: of prompts and noise.
    """
    base, pipeline = base_of(checkpoint), load_tiny(checkpoint)
    each = max(1, images // len(CATEGORIES))
    measured: dict[str, Any] = {"reconstruction": reconstruction(pipeline, base, images)}
    for name, held_out in (("training_prompts", False), ("held_out_prompts", True)):
        prompts = validation_prompts(each, seed, held_out=held_out)
        for scale in GUIDANCE:
            pictures = draw(pipeline, prompts, base.sampler(scale), seed)
            metrics = dataclasses.asdict(picture_metrics(prompts, pictures))
            measured.setdefault(name, {})[f"guidance {scale}"] = metrics
            print(name, scale, metrics, file=sys.stderr, flush=True)
            if held_out and scale == base.guidance:
                measured["judge_own_pictures"] = dataclasses.asdict(judge_metrics(pipeline, prompts, pictures))
    examples = [sample_example(seed, number, 0.5, held_out=True) for number in range(images)]
    drawn = [render(example.scene, PICTURE_SIZE).image for example in examples]
    measured["judge_drawn_pictures"] = dataclasses.asdict(
        judge_metrics(pipeline, [example.prompt for example in examples], drawn))
    if base.captions:
        for name, tidy in (("captions_of_tidy_pictures", True), ("captions_of_any_pictures", False)):
            examples = [sample_example(seed + 1, number, 0.0, held_out=True, tidy=tidy) for number in range(images)]
            drawn = [render(example.scene, PICTURE_SIZE).image for example in examples]
            measured[name] = dataclasses.asdict(
                caption_metrics(pipeline, [example.prompt for example in examples], drawn))
    return measured


def load_tiny(checkpoint: epath.PathLike, **more: Any) -> Pipeline:
    """A tiny model as all measurements load it: float32, on one device."""
    return load(os.fspath(checkpoint), dtype="float32", attention="dense", devices=jax.local_devices()[:1], **more)


def validation_prompts(per_category: int, seed: int, *, held_out: bool) -> list[Prompt]:
    """As many prompts of each category, in the order of categories."""
    prompts = []
    for number, category in enumerate(CATEGORIES):
        rng = np.random.Generator(np.random.Philox(key=[seed, number]))
        prompts += [sample_prompt(rng, category, held_out) for _ in range(per_category)]
    return prompts


def draw(
    pipeline: Pipeline, prompts: Sequence[Prompt], sampler: Any, seed: int = 0, plan: TextSampler | None = None
) -> list[np.ndarray]:
    """One picture per prompt, uint8 [S, S, 3], planned first if `plan` says how; the seed of picture k is `seed + k`.

    By the path of `srum_jax.generate`, with or without `--think`.
    """
    generator = pipeline.generator.with_sampler(sampler)
    requests = [ImageRequest(prompt_text(prompt), seed + number) for number, prompt in enumerate(prompts)]
    return [image.pixels for batch in in_parts(requests, _BATCH) for image in generator.generate(batch, plan=plan)]


def in_parts(items: Sequence, size: int) -> Iterator[Sequence]:
    """Neighbours together, so many at a time."""
    return (items[first : first + size] for first in range(0, len(items), size))


def picture_metrics(prompts: Sequence[Prompt], pictures: Sequence[np.ndarray]) -> PictureMetrics:
    """What the oracle says of pictures."""
    judgements = [judge_image(prompt, picture) for prompt, picture in zip(prompts, pictures, strict=True)]
    fit = {}
    for category in CATEGORIES:
        own = [j.correct for j, prompt in zip(judgements, prompts, strict=True) if prompt.category == category]
        if own:
            fit[category] = float(np.mean(own))
    return PictureMetrics(
        count=len(prompts),
        well_formed=float(np.mean([j.well_formed >= WELL_FORMED for j in judgements])),
        fit=float(np.mean([j.correct for j in judgements])),
        fit_by_category=fit,
    )


def reconstruction(pipeline: Pipeline, base: TinyBase, count: int, seed: int = 11) -> dict[str, float]:
    """Encodes and decodes drawn pictures: share that the oracle judges the same, share well formed, and PSNR in dB."""
    examples = [sample_example(seed, number, 0.4, held_out=True) for number in range(count)]
    pictures = np.stack([render(example.scene, PICTURE_SIZE).image for example in examples])
    decoded = np.concatenate([base.round_trip(pipeline, batch) for batch in in_parts(pictures, _BATCH)])
    same, crisp = [], []
    for example, picture in zip(examples, decoded, strict=True):
        expected, found = judge_scene(example.prompt, example.scene, PICTURE_SIZE), judge_image(example.prompt, picture)
        same.append(expected.faults == found.faults and expected.global_score == found.global_score)
        crisp.append(found.well_formed >= WELL_FORMED)
    error = np.mean((decoded.astype(float) - pictures) ** 2, axis=(1, 2, 3))
    psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-3))
    return {"same_judgement": float(np.mean(same)), "well_formed": float(np.mean(crisp)), "psnr": float(np.mean(psnr))}


def judge_metrics(
    pipeline: Pipeline, prompts: Sequence[Prompt], pictures: Sequence[np.ndarray], with_regions: bool = True
) -> JudgeMetrics:
    """Asks the model about pictures, as a whole and for every object that the oracle sees, and compares."""
    truth = [judge_image(prompt, picture) for prompt, picture in zip(prompts, pictures, strict=True)]
    texts = [prompt_text(prompt) for prompt in prompts]
    answers = ask(pipeline, [questions.whole_question(text) for text in texts], pictures)
    scores = [questions.read_score(answer) for answer in answers]
    readable = np.array([score is not None for score in scores])
    scores = np.array([-1.0 if score is None else score for score in scores])
    fits = np.array([judgement.correct for judgement in truth])
    said = scores >= questions.SCORE_LEVELS[-1]
    expected = np.array([judgement.global_score for judgement in truth])
    region_scores, region_truth, named = _regions(pipeline, texts, pictures, truth) if with_regions else ([], [], [])
    region_fits, region_said = np.array(region_truth) >= 1.0, np.array(region_scores) >= 1.0
    return JudgeMetrics(
        count=len(prompts), readable=float(readable.mean()), accuracy=float(np.mean(said == fits)),
        precision=_mean(fits[said]), recall=_mean(said[fits]), auc=area_under_curve(scores, fits),
        correlation=float(np.corrcoef(scores, expected)[0, 1]) if scores.std() and expected.std() else 0.0,
        regions=len(region_truth), region_accuracy=_mean(region_fits == region_said),
        region_auc=area_under_curve(np.array(region_scores), region_fits), object_named=_mean(named),
    )


def caption_metrics(pipeline: Pipeline, prompts: Sequence[Prompt], pictures: Sequence[np.ndarray]) -> CaptionMetrics:
    """Asks for a sentence about each picture; `prompts` are those that the pictures were drawn for."""
    said = ask(pipeline, [CAPTION_QUESTION] * len(pictures), pictures)
    right = captions_right(said, pictures)
    return CaptionMetrics(
        count=len(said), readable=float(np.mean([found is not None for found in right])),
        right=float(np.mean([bool(found) for found in right])),
        same=float(np.mean([text.strip() == prompt_text(prompt) for text, prompt in zip(said, prompts, strict=True)])),
    )


def captions_right(captions: Sequence[str], pictures: Sequence[np.ndarray]) -> list[bool | None]:
    """Whether each picture shows all that its caption says, and nothing else; None for no sentence of the grammar."""
    return [_shows(picture, text) for text, picture in zip(captions, pictures, strict=True)]


def _shows(picture: np.ndarray, text: str) -> bool | None:
    """Whether a picture shows all that a sentence says, and nothing else; None for no sentence of the grammar."""
    try:
        return judge_image(parse_prompt(text.strip()), picture).correct
    except BadInput:
        return None


def _regions(pipeline, texts: list[str], pictures: Sequence[np.ndarray], truth: list[Judgement]):
    asked, shown, expected = [], [], []
    for text, picture, judgement in zip(texts, pictures, truth, strict=True):
        for region in judgement.regions:
            asked.append(questions.region_question(text, region.box, *picture.shape[1::-1]))
            shown.append(picture)
            expected.append(region)
    answers = ask(pipeline, asked, shown)
    scores = [questions.read_score(answer) for answer in answers]
    named = [questions.read_object(answer) == region.object for answer, region in zip(answers, expected, strict=True)]
    return [-1.0 if score is None else score for score in scores], [region.score for region in expected], named


def ask(
    pipeline: Pipeline, texts: Sequence[str], pictures: Sequence[np.ndarray], sampler: TextSampler = _ANSWER
) -> list[str]:
    """The model's answer to each question about its picture, greedily decoded unless the sampler says otherwise."""
    asked = [Question(text, (picture,), seed)
             for seed, (text, picture) in enumerate(zip(texts, pictures, strict=True))]
    return [answer.text for batch in in_parts(asked, 2 * _BATCH) for answer in pipeline.answer(batch, sampler=sampler)]


def _mean(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive one has the higher score; ties count half. 0.5 where one kind is absent."""
    if not len(scores) or positive.all() or not positive.any():
        return 0.5
    above, below = scores[positive][:, None], scores[~positive][None]
    return float(np.mean((above > below) + 0.5 * (above == below)))
