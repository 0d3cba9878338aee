"""The options that say what a stage does again."""

import argparse
import re
from collections.abc import Collection

from srum_jax.errors import BadInput


def add_repeat_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the group "doing again"."""
    group = parser.add_argument_group("doing again", "What is replaced goes to OUT/old, and so does what later stages "
                                      "made of it, the records included; they have to be run again.")
    group.add_argument("--repair", action="store_true", help="do units again whose file was changed")
    group.add_argument("--redo", metavar="3,7-9", help="do these shards again, as far as they belong to this process")


def shards_of(text: str | None, num_shards: int) -> Collection[int]:
    """The shards that --redo names.

    Raises:
      BadInput: it names none of the run.
    """
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
