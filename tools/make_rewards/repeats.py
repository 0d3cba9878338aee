"""Which units a stage has still to do: those that are not committed, that are damaged, or that it is asked to repeat.

What is done again is set aside, never deleted, and so is what later stages made of it: see
`srum_jax.stages.set_aside`.
"""

import argparse
import re
import sys
from collections.abc import Collection

from srum_jax.stages.folder import DamagedError
from srum_jax.stages.set_aside import withdraw
from tools.make_rewards.errors import ArgumentError
from tools.make_rewards.stage_folder import GENERATE, RunFolder, StageUnit


def add_repeat_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the group "doing again"."""
    group = parser.add_argument_group("doing again", "What is replaced goes to OUT/old, and so does what later stages "
                                      "made of it, the records included; they have to be run again.")
    group.add_argument("--repair", action="store_true", help="do units again whose file was changed")
    group.add_argument("--redo", metavar="3,7-9", help="do these shards again, as far as they belong to this process")


def units_to_do(folder: RunFolder, stage: str, *, repair: bool = False, redo: str | None = None) -> list[StageUnit]:
    """The units of this process that are not committed. Checks those that are.

    Args:
      folder: of the run.
      stage: which one.
      repair: whether to do units again whose chunk is damaged.
      redo: shards to do again, for instance "3,7-9".

    Raises:
      ArgumentError: `redo` names no shards of the run, or an earlier stage has not been run.
      DamagedError: naming a chunk that was changed, and `repair` is false.
    """
    again = _shards(redo, folder.files.num_shards)
    missing, moved = [], 0
    for unit in folder.share():
        if not folder.chunk(stage, unit).exists():
            missing.append(unit)
            continue
        if unit.shard not in again:
            # Outside: what an earlier stage wrote is not made again here.
            expected = [line["record_id"] for line in folder.lines(GENERATE, unit)]
            try:
                check_chunk(folder, stage, unit, expected)
                continue
            except DamagedError as error:
                if not repair:
                    raise
                print(f"repair: {error}", file=sys.stderr)
        moved += len(withdraw(folder.root, stage, folder.files.shard_name(unit.shard), unit.name))
        missing.append(unit)
    if moved:
        print(f"{stage}: {moved} files set aside in {folder.root / 'old'}; later stages have to be run again",
              file=sys.stderr)
    return missing


def check_chunk(folder: RunFolder, stage: str, unit: StageUnit, expected: list[str]) -> None:
    """Compares a committed chunk with the images that it has to be about.

    Args:
      folder: of the run.
      stage: which one.
      unit: of the chunk.
      expected: ids of its images, in order.

    Raises:
      DamagedError: naming the chunk.
    """
    found = [line["record_id"] for line in folder.lines(stage, unit)]
    if found != expected:
        raise DamagedError(f"{folder.chunk(stage, unit)}: expected the records {_listed(expected)}, found "
                           f"{_listed(found)}; it was changed after it was written. `{stage} --repair` sets it aside "
                           "and makes it again.")


def _shards(text: str | None, num_shards: int) -> Collection[int]:
    if text is None:
        return ()
    shards: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (0, -1)
        if not first <= last < num_shards:
            raise ArgumentError(f"--redo: expected numbers of shards from 0 to {num_shards - 1} such as 3,7-9, found "
                                f"{part!r} in {text!r}.")
        shards.update(range(first, last + 1))
    return shards


def _listed(names: list[str]) -> str:
    text = ", ".join(map(str, names[:4]))
    return f"{text}, ... ({len(names)})" if len(names) > 4 else text
