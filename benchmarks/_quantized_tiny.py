"""What integer weights change in the trained tiny models; see `benchmarks.quantized_drift`."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks._predictions import (
    compute_of,
    matrix_error,
    predictions_of,
    relative_error,
    same_code,
    variation,
)
from experiments._tiny_bases.bases import TinyBase
from experiments._tiny_bases.measure import ask, draw
from experiments._tiny_study.statistics import difference
from srum_jax.data.example import Batch, Picture, stack_rows
from srum_jax.data.example import Example as Shown
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.registry import family
from srum_jax.objectives.columns import NO_COLUMNS
from srum_jax.pipeline import load
from srum_jax.rewards.rank_agreement import area_under_curve
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load as load_weights
from srum_jax.weights.tokenizer import load_tokenizer
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.prompt_set import balanced_prompts
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.questions import PICTURE_SIZE, read_score, whole_question
from srum_jax.worlds.shapes.records import Example, sample_example
from srum_jax.worlds.shapes.scene import Prompt

PRECISIONS = (("bfloat16", None), ("float32", "int8"), ("float32", "int4"))  # of activations, of matrices
_SEED = 1001
_PREDICTED = 64  # pictures
_ROWS = {
    "bagel": BagelRows(samples_per_row=1, text_capacity=64, latent_capacity=36, images_per_row=1,
                       image_height=PICTURE_SIZE, image_width=PICTURE_SIZE, max_size=PICTURE_SIZE,
                       min_size=PICTURE_SIZE, stride=8),
    "janus_pro": JanusRows(samples_per_row=1, text_capacity=32),
}


@dataclasses.dataclass(frozen=True)
class Observed:
    """A tiny model in one precision.

    Attributes:
      predictions: see `predictions_of`, of the first rendered pictures.
      scores: that it gives rendered pictures, float64 [N]; -1 where it gives none.
      pictures: that it draws, uint8 [M, S, S, 3].
      fits: bool [M], whether the oracle finds in them what was asked for.
    """

    predictions: np.ndarray
    scores: np.ndarray
    pictures: np.ndarray
    fits: np.ndarray


def tiny_drift(base: TinyBase, per_category: int) -> list[dict[str, Any]]:
    """Figures of one model, an entry for each of PRECISIONS; what they mean says `benchmarks.quantized_drift`.

    Args:
      base: which.
      per_category: held-out sentences of each category, a picture of each; as many rendered pictures are judged.
    """
    prompts = balanced_prompts(per_category, _SEED, held_out=True)
    examples = [sample_example(_SEED, number, 0.5, held_out=True) for number in range(len(prompts))]
    rendered = [render(example.scene, PICTURE_SIZE).image for example in examples]
    right = np.array([judge_image(example.prompt, picture).correct
                      for example, picture in zip(examples, rendered, strict=True)])
    floats, entries = None, []
    _, state = load_weights(open_checkpoint(base.checkpoint(), family(base.family).architecture))
    for dtype, integers in (("float32", None), *PRECISIONS):
        found = observe(base, prompts, examples, rendered, dtype, integers)
        floats = floats or found
        entries.append({"model": base.name, "activations": dtype, "matrices": integers or dtype,
                        "matrix_error": matrix_error(state, integers) if integers else None,
                        **compared(found, floats, right, codes=base.family == "janus_pro")})
        print(entries[-1], file=sys.stderr, flush=True)
    return entries


def observe(base: TinyBase, prompts: Sequence[Prompt], examples: Sequence[Example], rendered: Sequence[np.ndarray],
            dtype: str, integers: str | None) -> Observed:
    """One model in one precision.

    Args:
      base: which.
      prompts: that it draws for.
      examples: whose pictures it judges.
      rendered: these pictures, uint8 [S, S, 3].
      dtype: of activations, and of weights that are not integers.
      integers: of matrices, or None.
    """
    sentences = [prompt_text(example.prompt) for example in examples]
    predictions = _predictions(base, sentences[:_PREDICTED], rendered[:_PREDICTED], dtype, integers)
    pipeline = load(base.checkpoint(), dtype=dtype, attention="dense", devices=jax.local_devices()[:1],
                    quantize=integers)
    scores = [read_score(answer) for answer in ask(pipeline, [whole_question(text) for text in sentences], rendered)]
    pictures = draw(pipeline, prompts, base.sampler(base.guidance), _SEED)
    return Observed(predictions, np.array([-1.0 if score is None else score for score in scores]), np.stack(pictures),
                    np.array([judge_image(prompt, picture).correct
                              for prompt, picture in zip(prompts, pictures, strict=True)]))


def compared(found: Observed, floats: Observed, right: np.ndarray, *, codes: bool) -> dict[str, Any]:
    """What changed.

    Args:
      found: in some precision.
      floats: in float32.
      right: bool [N], whether the rendered pictures fit.
      codes: whether predictions are scores of codes.
    """
    pixels = found.pictures.astype(float) - floats.pictures
    change = difference(found.fits[None].astype(float), floats.fits[None].astype(float))
    return {
        "prediction": relative_error(found.predictions, floats.predictions),
        "variation": variation(found.predictions, floats.predictions) if codes else None,
        "same_code": same_code(found.predictions, floats.predictions) if codes else None,
        "pixels_rms": float(np.sqrt(np.mean(pixels**2))),
        "bytes_changed": float(np.mean(pixels != 0)),
        "same_verdict": float(np.mean(found.scores == floats.scores)),
        "score": float(np.mean(np.abs(found.scores - floats.scores))),
        "auc": area_under_curve(found.scores, right),
        "fits": float(found.fits.mean()),
        "fits_change": [change.mean, change.low, change.high],
    }


def _predictions(base: TinyBase, sentences: Sequence[str], rendered: Sequence[np.ndarray], dtype: str,
                 integers: str | None) -> np.ndarray:
    kind = family(base.family)
    checkpoint = open_checkpoint(base.checkpoint(), kind.architecture)
    graphdef, state = load_weights(checkpoint, quantize=integers, dtype=lambda parameter: (
        "float32" if parameter.startswith(kind.architecture.float32) else dtype))
    forward = kind.forward(checkpoint.config, compute_of(dtype))
    batch = full_rows(base.family, _ROWS[base.family], checkpoint.config, sentences, rendered)
    return predictions_of(graphdef, forward.scores)(state, batch, forward.draws(jax.random.key(_SEED), batch))


def full_rows(name: str, rows: Any, config: Any, sentences: Sequence[str], pictures: Sequence[np.ndarray]) -> Batch:
    """A row for each picture, the sentences as the world of shapes has them in tokens.

    Args:
      name: of the family.
      rows: sizes; a picture fills the room for image tokens.
      config: of the model.
      sentences: for which the pictures are drawn.
      pictures: uint8 [S, S, 3].
    """
    packer = family(name).packer(rows, config, load_tokenizer(trained_base()), NO_COLUMNS, None)
    packed = []
    for number, (sentence, pixels) in enumerate(zip(sentences, pictures, strict=True)):
        row = packer.empty_row()
        row.add(Shown(sentence, Picture(*pixels.shape[1::-1], pixels=pixels), lambda grid: {}),
                np.random.Generator(np.random.Philox(key=[_SEED, number])))
        packed.append(row.finish())
    return stack_rows(packed)
