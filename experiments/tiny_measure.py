"""Says what the oracle of the shapes world finds of a tiny model: its pictures, its answers, its captions.

Prints JSON, shares in [0, 1]; figures of the shipped bases stand in their recipe.json, from this very measurement.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from etils import epath

from experiments._argument_types import local_folder
from experiments._tiny_bases.bases import BASES
from srum_jax.command_line import in_range
from srum_jax.stages.interruption import run_command

_EPILOG = """
examples:
  python -m experiments.tiny_measure --base janus
  python -m experiments.tiny_measure --base runs/study/models/paper-0 --images 64

exit codes:
  0    done
  1    failed
  2    bad arguments, or a model of another world
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tiny_measure", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", type=_base, required=True, metavar="NAME",
                        help=f"a checkpoint, or one of {', '.join(BASES)}: the one that is shipped")
    parser.add_argument("--images", type=in_range(int, 1), default=200,
                        help="for each measurement (default: %(default)s)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _measure(arguments.base, arguments.images))


def _base(text: str) -> str | epath.Path:
    """A name of ours, or a folder."""
    return text if text in BASES else local_folder(text)


def _measure(base: str | epath.Path, images: int) -> None:
    checkpoint = BASES[base].checkpoint() if base in BASES else base
    # These import JAX, which takes seconds.
    from experiments._tiny_bases.measure import measure_base
    from srum_jax.devices import start_devices

    start_devices()
    print(json.dumps(measure_base(checkpoint, images), indent=2))


if __name__ == "__main__":
    sys.exit(main())
