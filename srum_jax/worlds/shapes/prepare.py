"""Makes what a training run in the shapes world needs: the tiny model and records. Nothing is downloaded."""

import dataclasses
import json
import os
from typing import Any

from etils import epath

from srum_jax.data.errors import DataError
from srum_jax.data.writer import MANIFEST
from srum_jax.worlds.shapes.base import write_base
from srum_jax.worlds.shapes.records import world_settings, write_records

NUM_RECORDS = 2048
WRONG_SHARE = 0.4


def prepare(experiment: Any, workdir: epath.PathLike) -> Any:
    """Writes `WORKDIR/shapes/base` and `WORKDIR/shapes/records` unless they exist, and points a run to them.

    Args:
      experiment: a dataclass with `seed`, `model.checkpoint` and `data.records`.
      workdir: of the run, a local path.

    Returns:
      The experiment, with both paths filled in.

    Raises:
      DataError: the directory holds records drawn with other settings.
    """
    folder = epath.Path(workdir) / "shapes"
    base, records = folder / "base", folder / "records"
    if not base.exists():
        write_base(base, experiment.seed)
    settings = world_settings(num_records=NUM_RECORDS, seed=experiment.seed, wrong_share=WRONG_SHARE)
    if not (records / MANIFEST).exists():
        write_records(records, NUM_RECORDS, experiment.seed, wrong_share=WRONG_SHARE)
    found = json.loads((records / MANIFEST).read_text())["provenance"].get("world")
    if found != settings:
        raise DataError(
            os.fspath(records), None, f"drawn with {found}, expected {settings}; choose another workdir"
        )
    return dataclasses.replace(
        experiment,
        model=dataclasses.replace(experiment.model, checkpoint=os.fspath(base)),
        data=dataclasses.replace(experiment.data, records=os.fspath(records)),
    )
