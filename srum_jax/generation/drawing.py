"""From a plan of work to a folder with all its images: what is there is checked, what is missing is made."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from tqdm import tqdm

from srum_jax.errors import BadInput
from srum_jax.generation.prompt_file import BadRow
from srum_jax.generation.resume import missing_units
from srum_jax.generation.run_file import Run, begin_run, compare_run
from srum_jax.generation.runner import finish_shards, generate_units, write_rejects
from srum_jax.generation.work_units import Unit, WorkPlan
from srum_jax.inference.protocols import Generator
from srum_jax.stages.folder import StageFolder


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What came of it."""

    written: int  # images, by this process now
    share: int  # images of this process
    seconds: float
    summary: Mapping[str, Any] | None  # of the whole run; None while images of other processes are missing


def draw_missing(
    run: Run,
    plan: WorkPlan,
    folder: StageFolder,
    load: Callable[[bool], Generator],
    *,
    bad: Sequence[BadRow] = (),
    source_folder: epath.PathLike = ".",
    repair: bool = False,
) -> Drawn:
    """Makes what this process's share lacks.

    Args:
      run: what the folder is, or was, begun with.
      plan: of the whole run.
      folder: of the run.
      load: the model; called with whether pictures are edited, and only if something is missing.
      bad: rows that were left out.
      source_folder: that the paths of source images are relative to.
      repair: whether to make units again of which a file was changed.

    Raises:
      BadInput: the folder was begun with something else, or cannot be made.
      DamagedError: a file was changed since it was written, and `repair` is false.
      WriteError, Failure: as for `runner.generate_units`.
    """
    share = folder.processes.share(plan.units)
    missing = list(share)
    if compare_run(run, folder):
        with progress(len(share), "units checked") as bar:
            missing = missing_units(share, folder, run.settings, repair=repair, on_checked=lambda unit: bar.update())
    generator = None
    if missing:
        # Of the whole run, so that every process and every resumed run computes with the same programs.
        generator = load(any(job.edit for unit in plan.units for job in unit.jobs))
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {folder.root}: cannot be made ({error.strerror or error}).") from error
    begin_run(run, folder)
    write_rejects(bad, folder)
    started, written = time.monotonic(), 0
    with progress(num_images(share), "images", num_images(share) - num_images(missing)) as bar:
        for records in generate_units(missing, generator, folder, run.settings, epath.Path(source_folder)):
            bar.update(len(records))
            written += len(records)
    seconds = time.monotonic() - started
    return Drawn(written, num_images(share), seconds, finish_shards(plan, bad, folder))


def num_images(units: Sequence[Unit]) -> int:
    """Of all units."""
    return sum(len(unit.jobs) for unit in units)


@contextlib.contextmanager
def progress(total: int, unit: str, initial: int = 0) -> Iterator[tqdm]:
    """A bar on a terminal; nothing elsewhere."""
    with tqdm(total=total, initial=initial, unit=f" {unit}", disable=None, dynamic_ncols=True) as bar:
        yield bar
