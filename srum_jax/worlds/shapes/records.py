"""Reward records of the shapes world: drawn images, a known share of them wrong, with exact scores.

Record i is a function of (seed, i) alone, so a longer set starts with the records of a shorter one.
"""

import dataclasses
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from srum_jax.data import writer
from srum_jax.data.manifest import Manifest
from srum_jax.data.schema import GlobalStatus, Region, RewardRecord, Verdict
from srum_jax.worlds.shapes.drawing import MIN_IMAGE_SIZE, render
from srum_jax.worlds.shapes.layout import draft_of, lay_out, lay_out_tidily
from srum_jax.worlds.shapes.mistakes import Fault, plant, possible_mistakes
from srum_jax.worlds.shapes.oracle import Judgement, judge_scene
from srum_jax.worlds.shapes.prompts import prompt_text, sample_prompt
from srum_jax.worlds.shapes.scene import Prompt, Scene

NAME = "shapes"
_WORLD_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Example:
    """One drawn prompt."""

    prompt: Prompt
    scene: Scene
    planted: tuple[Fault, ...]  # in increasing order; empty if the scene is faithful


def sample_example(
    seed: int, index: int, wrong_share: float, held_out: bool = False, *, tidy: bool = False
) -> Example:
    """A prompt and a scene; with probability `wrong_share` it has one mistake. Depends on nothing else.

    A tidy scene has places and sizes that follow from the prompt.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, index]))
    prompt = sample_prompt(rng, held_out=held_out)
    draft, planted = draft_of(prompt, rng), ()
    if rng.random() < wrong_share:
        kinds = possible_mistakes(prompt)
        draft, planted = plant(prompt, draft, kinds[rng.integers(len(kinds))], rng)
    return Example(prompt, lay_out_tidily(draft) if tidy else lay_out(draft, rng), planted)


def write_records(
    directory: epath.PathLike,
    num_records: int,
    seed: int = 0,
    *,
    wrong_share: float = 0.4,
    image_size: int = 64,
    num_shards: int = 4,
    held_out: bool = False,
) -> Manifest:
    """Draws, judges and writes records; equal arguments give equal bytes with the same version of Pillow.

    Args:
      directory: where to write; it must not hold records already.
      num_records: how many.
      seed: of prompts, mistakes and places, in [0, 2^64).
      wrong_share: probability that an image has a mistake, in [0, 1].
      image_size: side in pixels.
      num_shards: files.
      held_out: prompts of the held-out set instead of the training set.

    Raises:
      ValueError: an argument outside its range.
      DataError: the directory holds other records.
    """
    settings = world_settings(
        num_records=num_records, seed=seed, wrong_share=wrong_share, image_size=image_size, held_out=held_out
    )
    return writer.write_records(
        directory,
        _records(settings),
        name=NAME,
        num_shards=num_shards,
        provenance=_provenance(settings),
        settings=settings,
    )


def world_settings(
    *, num_records: int, seed: int, wrong_share: float = 0.4, image_size: int = 64, held_out: bool = False
) -> dict[str, Any]:
    """Everything that decides which records are drawn, as stored in their manifest; see `write_records`.

    Raises:
      ValueError: an argument outside its range.
    """
    limits = {
        "num_records": (num_records, 1, math.inf),
        "seed": (seed, 0, 2**64 - 1),
        "wrong_share": (wrong_share, 0, 1),
        "image_size": (image_size, MIN_IMAGE_SIZE, math.inf),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ValueError(f"{name}: expected a number in [{low}, {high}], found {value}.")
    values = {name: value for name, (value, _, _) in limits.items()}
    return values | {"held_out": held_out, "world_version": _WORLD_VERSION}


def _provenance(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage_version": 1,
        "generator": {"model_id": "shapes-world-drawing"},
        "judge": {"model_id": "shapes-world-oracle"},
        "imported": False,
        "world": settings,
    }


def _records(settings: dict[str, Any]) -> Iterator[RewardRecord]:
    for index in range(settings["num_records"]):
        example = sample_example(settings["seed"], index, settings["wrong_share"], settings["held_out"])
        yield record_of(example, index, settings["image_size"], _provenance(settings))


def record_of(example: Example, index: int, image_size: int, provenance: dict[str, Any]) -> RewardRecord:
    """The record of one example, with scores from the procedure that draws it."""
    prompt_set = f"{NAME}_held_out" if provenance["world"]["held_out"] else f"{NAME}_train"
    judgement = judge_scene(example.prompt, example.scene, image_size)
    return writer.record_of_image(
        encode_png(render(example.scene, image_size).image),
        record_id=f"{prompt_set}-{index}-c00",
        index=index,
        prompt=prompt_text(example.prompt),
        prompt_set=prompt_set,
        source_id=str(index),
        category=example.prompt.category,
        has_directive=example.prompt.relation is not None,
        keywords=tuple(dict.fromkeys(phrase.shape for phrase in example.prompt.phrases)),
        regions=tuple(_regions(example.prompt, judgement)),
        provider="oracle",
        num_found=len(judgement.regions),
        global_status=GlobalStatus.OK,
        global_score=judgement.global_score,
        global_reason="; ".join(str(fault) for fault in judgement.faults) or None,
        judge_attempts=(0, 1, 1),
        provenance=provenance | {"planted": [str(fault) for fault in example.planted]},
    )


def _regions(prompt: Prompt, judgement: Judgement) -> Iterator[Region]:
    for region in judgement.regions:
        keyword = "" if region.phrase is None else prompt.phrases[region.phrase].shape
        yield Region(
            box=region.box,
            score=region.score,
            object=region.object,
            reason=region.reason,
            keyword=keyword,
            verdict=Verdict.UNMATCHED if region.phrase is None else Verdict.MATCH,
        )


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of an image, uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png", optimize=False, compress_level=6)
    return buffer.getvalue()
