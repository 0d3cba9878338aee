"""What `segment` and `judge` have in common: a line for every image, made unit by unit, going on where it was."""

import argparse
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from tqdm import tqdm

from srum_jax.errors import BadInput
from srum_jax.stages import noted
from srum_jax.stages.processes import add_process_arguments, find_processes
from tools.make_rewards.reject_rate import add_reject_argument, refuse_too_many
from tools.make_rewards.run_folder import RunFolder, StageUnit

Line = dict[str, Any]


def add_stage_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the group "doing again", --max-reject-rate, and the group "processes"."""
    group = parser.add_argument_group("doing again", "What is replaced goes to OUT/old, and so does what later stages "
                                      "made of it, the records included; they have to be run again.")
    group.add_argument("--repair", action="store_true", help="do units again whose file was changed")
    group.add_argument("--redo", metavar="3,7-9", help="do these shards again, as far as they belong to this process")
    add_reject_argument(parser)
    add_process_arguments(parser)


def open_run(arguments: argparse.Namespace) -> RunFolder:
    """The folder of --out, as one of the processes sees it.

    Raises:
      BadInput: there is none that `generate` has completed, or the numbers of processes contradict each other.
    """
    return RunFolder(arguments.out, find_processes(arguments.process_index, arguments.num_processes,
                                                   arguments.distributed))


def run_stage(
    stage: str,
    folder: RunFolder,
    settings: Mapping[str, Any],
    begin: Callable[[], Callable[[StageUnit], list[Line]]],
    summarise: Callable[[Iterator[Line]], Mapping[str, Any]],
    arguments: argparse.Namespace,
) -> None:
    """Does what is missing of a stage.

    Args:
      stage: its name.
      folder: of the run.
      settings: that decide what it writes; noted, and compared when it goes on.
      begin: loads what it takes; returns what makes the lines of a unit. Called if there is a unit to do.
      summarise: of all lines, with "images" and "rejected" among others.
      arguments: those of `add_stage_arguments`.

    Raises:
      BadInput: the stage was begun with other settings.
      Incomplete: more images were rejected than --max-reject-rate allows.
    """
    own = folder.stage(stage)
    noted.compare(own.settings, settings)
    missing = folder.units_to_do(stage, repair=arguments.repair, again=_shards(arguments.redo, folder.num_shards))
    make_lines = begin() if missing else None
    # What cannot be loaded is nothing that the folder was begun with.
    noted.note(own.settings, settings)
    started, count = time.monotonic(), 0
    for unit in tqdm(missing, unit="unit", disable=None):
        lines = make_lines(unit)
        own.commit(unit, lines)
        count += len(lines)
    summary = folder.finish(stage, summarise)
    print_outcome(stage, count, time.monotonic() - started, summary)
    if summary is not None:  # all processes have finished
        refuse_too_many(summary["images"], summary["rejected"], arguments.max_reject_rate)


def print_outcome(stage: str, count: int, seconds: float, summary: Mapping[str, Any] | None) -> None:
    """Tells how many images a stage has done now, and what it has found once all processes have finished."""
    rate = f" ({count / seconds:.3g} a second)" if count else ""
    print(f"{stage}: {count} images now{rate}" + ("; other processes have not finished" if summary is None else ""))
    for name, value in (summary or {}).items():
        print(f"  {name}: {value}")


def _shards(text: str | None, num_shards: int) -> Collection[int]:
    """The shards that --redo names."""
    if text is None:
        return ()
    shards: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (0, -1)
        if not first <= last < num_shards:
            raise BadInput(f"--redo: expected numbers of shards from 0 to {num_shards - 1} such as 3,7-9, found "
                                f"{part!r} in {text!r}.")
        shards.update(range(first, last + 1))
    return shards
