"""What the models understand, on drawn pictures of which half are wrong: nothing may be lost there."""

import dataclasses
import json
from collections.abc import Mapping

import jax
from etils import epath

from experiments._tiny_study.table import markdown
from srum_jax.data.atomic_file import write_json
from srum_jax.inference.pipeline import Pipeline
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.measure import judge_metrics
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.records import sample_example

_PICTURES, _WRONG_SHARE, _SEED = 128, 0.5, 1003
_SHOWN = {"accuracy": "fits or not, %", "auc": "AUC of the score, %", "region_accuracy": "region right or not, %",
          "object_named": "object named, %"}


def understanding_table(path: epath.Path, checkpoints: Mapping[str, epath.PathLike]) -> str:
    """A row per model; answers to the same questions about the same held-out pictures.

    Args:
      path: a file that keeps what was measured.
      checkpoints: by the name of the model.
    """
    measured = json.loads(path.read_text()) if path.exists() else {}
    examples = [sample_example(_SEED, number, _WRONG_SHARE, held_out=True) for number in range(_PICTURES)]
    pictures = [render(example.scene, PICTURE_SIZE).image for example in examples]
    for name, checkpoint in checkpoints.items():
        if name not in measured:
            pipeline = Pipeline.load(checkpoint, dtype="float32", attention="dense",
                                     devices=jax.local_devices()[:1])
            metrics = judge_metrics(pipeline, [example.prompt for example in examples], pictures)
            measured[name] = dataclasses.asdict(metrics)
            write_json(path, measured)
    rows = [["understanding", *_SHOWN.values()]]
    for name in checkpoints:
        rows.append([name, *(f"{100 * measured[name][key]:.1f}" for key in _SHOWN)])
    return markdown(rows)
