"""How many images may be left out before a command says so by its exit code."""

import argparse
from collections.abc import Mapping

from etils import epath

from srum_jax.command_line import in_range
from srum_jax.errors import Incomplete


def add_reject_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --max-reject-rate."""
    parser.add_argument("--max-reject-rate", type=in_range(float, 0, 1), default=0.2, metavar="SHARE",
                        help="exit with 3 if a larger share is rejected (default: %(default)s)")


def refuse_too_many(count: int, rejected: Mapping[str, int], max_rate: float, listed: epath.Path | None = None) -> None:
    """Ends a stage that rejected more than it may.

    Args:
      count: of all images.
      rejected: how many of them, by reason.
      max_rate: the share that is allowed.
      listed: where the images stand, with the reasons.

    Raises:
      Incomplete: more were rejected.
    """
    total = sum(rejected.values())
    if total > max_rate * count:
        raise Incomplete(f"{total} of {count} images were rejected, more than --max-reject-rate {max_rate} allows: "
                         f"{dict(rejected)}" + (f"; the reasons are in {listed}" if listed else ""))
