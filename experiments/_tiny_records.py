"""Makes what a training run in the shapes world needs: the tiny model and records. Nothing is downloaded."""

import dataclasses
import json
import os
from typing import Any

from etils import epath

from srum_jax.data.errors import DataError
from srum_jax.data.manifest import MANIFEST
from srum_jax.storage.atomic_directory import is_complete

NUM_RECORDS = 2048
WRONG_SHARE = 0.4


def prepare(experiment: Any, workdir: epath.PathLike) -> Any:
    """Writes `WORKDIR/shapes/base` and `WORKDIR/shapes/records` unless they exist, and points a run to them.

    A run that names a checkpoint or records of its own keeps them, and what it does not need is not made.

    Args:
      experiment: a dataclass with `seed`, `model.checkpoint` and `data.records`.
      workdir: of the run, a local path.

    Returns:
      The experiment, with both paths filled in where they were empty.

    Raises:
      DataError: the directory holds records drawn with other settings, or damaged ones.
    """
    folder = epath.Path(workdir) / "shapes"
    model, data = experiment.model, experiment.data
    if not model.checkpoint:
        if not is_complete(folder / "base"):
            # Here and below: an experiment's settings are looked at long before this is needed, and takes seconds.
            from srum_jax.worlds.shapes.bases.bagel import write_base

            write_base(folder / "base", experiment.seed)
        model = dataclasses.replace(model, checkpoint=os.fspath(folder / "base"))
    if not data.records:
        _draw_records(folder / "records", experiment.seed)
        data = dataclasses.replace(data, records=os.fspath(folder / "records"))
    return dataclasses.replace(experiment, model=model, data=data)


def _draw_records(records: epath.Path, seed: int) -> None:
    from srum_jax.worlds.shapes.records import world_settings, write_records

    settings = world_settings(num_records=NUM_RECORDS, seed=seed, wrong_share=WRONG_SHARE)
    manifest = records / MANIFEST
    if not manifest.exists():
        write_records(records, NUM_RECORDS, seed, wrong_share=WRONG_SHARE)
    try:
        found = json.loads(manifest.read_text())["provenance"].get("world")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(os.fspath(manifest), None, f"not a manifest ({error!r}); choose another workdir") from error
    if found != settings:
        raise DataError(os.fspath(records), None, f"drawn with {found}, expected {settings}; choose another workdir")
