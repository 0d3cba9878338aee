"""What a model understands, on drawn pictures of which half are wrong: nothing may be lost there."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments._tiny_bases.measure import judge_metrics
from experiments._tiny_study.table import markdown
from srum_jax.pipeline import Pipeline
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.records import sample_example

_WRONG_SHARE, _SEED = 0.5, 1003
_SHOWN = {"accuracy": "fits or not, %", "auc": "AUC of the score, %", "region_accuracy": "region right or not, %",
          "object_named": "object named, %"}


def understanding(pipeline: Pipeline, count: int) -> dict[str, Any]:
    """Answers to the same questions about the first held-out pictures, marked; see `JudgeMetrics`."""
    examples = [sample_example(_SEED, number, _WRONG_SHARE, held_out=True) for number in range(count)]
    pictures = [render(example.scene, PICTURE_SIZE).image for example in examples]
    return dataclasses.asdict(judge_metrics(pipeline, [example.prompt for example in examples], pictures))


def understanding_table(measured: Mapping[str, Mapping[str, float]]) -> str:
    """A row per model.

    Args:
      measured: by the name of the model, what `understanding` found.
    """
    rows = [["understanding", *_SHOWN.values()]]
    rows += [[name, *(f"{100 * found[key]:.1f}" for key in _SHOWN)] for name, found in measured.items()]
    return markdown(rows)
