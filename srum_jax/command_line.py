"""What all commands do with their arguments and their streams. Imports nothing heavy: `--help` answers at once."""

import argparse
import io
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import MESH_AXES


def user_path(text: str) -> str:
    """A path as a user types it, for `type=` of an argument: shells leave the ~ of --workdir=~/run to us."""
    return os.path.expanduser(text)


def in_range(kind: type, least: float, most: float = math.inf) -> Callable[[str], Any]:
    """For `type=` of an argument: reads a number of a kind, int or float, between two ends that belong to it."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            words = "a whole number" if kind is int else "a number"
            ends = f"from {least}" if most == math.inf else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"expected {words} {ends}, found {text!r}")
        return value

    return read


def mesh(axes: Sequence[str] = MESH_AXES, rest: str | None = None) -> Callable[[str], MeshConfig]:
    """For `type=` of an argument: reads for instance "data=2,fsdp=4"; -1 takes what the others leave.

    Args:
      axes: that may be named; those that are not have size 1.
      rest: the axis that takes what is left where neither it nor -1 is named; None: that is left to `MeshConfig.shape`.
    """

    def read(text: str) -> MeshConfig:
        sizes: dict[str, int] = {}
        for part in text.split(","):
            name, _, size = part.strip().partition("=")
            if name not in axes or name in sizes or not re.fullmatch(r"-1|[1-9]\d*", size):
                raise argparse.ArgumentTypeError(
                    f"expected AXIS=SIZE,... with each of {', '.join(axes)} at most once and positive sizes or -1, for "
                    f"instance data=2,fsdp=4; found {part!r} in {text!r}")
            sizes[name] = int(size)
        fill = {} if rest is None or rest in sizes or -1 in sizes.values() else {rest: -1}
        return MeshConfig(**dict.fromkeys(MESH_AXES, 1) | sizes | fill)

    return read


def words_of(name: str, value: Any) -> list[str]:
    """An argument of an experiment's `rewards` as the words of a command; none for None.

    Args:
      name: spelled as in Python: `max_share` is `--max-share`. With a dot it is a setting: `--set sampler.shift=...`.
      value: a number, text, a list of them, or a bool: `--think` or `--no-think`.
    """
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return []
    if "." in name:  # a setting in a group
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        return ["--set", f"{name}={text.lower() if isinstance(value, bool) else text}"]
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, list | tuple):
        return [flag, *map(str, value)]
    return [flag, str(value)]


def set_up_streams() -> None:
    """Prints characters that a stream's encoding lacks by their numbers. Warnings go to standard error, one line each,
    those of ours; other libraries have to have failed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a traceback of whatever it raises as well
