"""How many images may be left out before a command says so by its exit code."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from srum_jax.errors import BadInput

TOO_MANY = 3  # exit code


def add_reject_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --max-reject-rate."""
    parser.add_argument("--max-reject-rate", type=float, default=0.2, metavar="SHARE",
                        help="exit with 3 if a larger share is rejected (default: %(default)s)")


def check_reject_rate(rate: float) -> None:
    """Raises BadInput if it is no share."""
    if not 0 <= rate <= 1:
        raise BadInput(f"--max-reject-rate: expected a share in [0, 1], found {rate}.")


def outcome(summary: Mapping[str, Any] | None, max_rate: float) -> int:
    """The exit code of a stage: 3 if more of its images were rejected than allowed.

    Args:
      summary: with "images" and "rejected" by reason; None while other processes have not finished.
      max_rate: the share that is allowed.
    """
    if summary is None or not summary["images"]:
        return 0
    rejected = sum(summary["rejected"].values())
    if rejected <= max_rate * summary["images"]:
        return 0
    print(f"error: {rejected} of {summary['images']} images were rejected, more than --max-reject-rate {max_rate} "
          f"allows: {dict(summary['rejected'])}", file=sys.stderr)
    return TOO_MANY
