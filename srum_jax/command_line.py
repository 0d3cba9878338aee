"""What all commands do with their arguments and their streams. Imports nothing heavy: `--help` answers at once."""

import logging
import os


def path(text: str) -> str:
    """A path as a user types it, for `type=` of an argument: shells leave the ~ of --workdir=~/run to us."""
    return os.path.expanduser(text)


def set_up_logging() -> None:
    """Warnings go to standard error, one line each, those of ours; other libraries have to have failed."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a traceback of whatever it raises as well
