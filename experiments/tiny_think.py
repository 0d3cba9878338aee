"""Can the tiny model of the shapes world learn to write a short plan before it draws, and does it draw better for it?

The shipped base is trained further: on planned pictures, on pictures without plans, and on questions. A control is
trained for as many steps on the same pictures without their plans. Pictures for held-out prompts are then marked by the
oracle: drawn without a plan, with the model's own plan (as `srum_jax.generate --think` draws), and with a true one.
Everything is kept in --out; the same command goes on where it was.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from experiments._argument_types import local_folder
from experiments._tiny_bagel.settings import SampleSettings, ThinkSettings
from experiments._tiny_think.plans import THINK_TEMPLATES
from srum_jax.command_line import in_range
from srum_jax.stages.interruption import run_command

_EPILOG = f"""
examples:
  python -m experiments.tiny_think --out runs/think
  python -m experiments.tiny_think --out runs/short --steps 200 --prompts-per-category 8 --guidance 1

The models are OUT/thinker and OUT/control. To draw with plans:
  python -m srum_jax.generate --checkpoint OUT/thinker --think --dtype float32 --set sampler.guidance.interval=0,1 \\
      --templates {os.path.relpath(THINK_TEMPLATES)} --prompts FILE --out pictures

exit codes:
  0    done
  1    failed; the same command goes on
  2    the arguments or the folder cannot be used
  130  interrupted; the same command goes on
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    # Imports JAX, which takes seconds.
    from experiments._tiny_think.study import run_study

    return run_command(lambda: run_study(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.tiny_think", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=local_folder, metavar="DIR",
                        help="new, or begun by the same command")
    parser.add_argument("--base", type=local_folder, metavar="DIR",
                        help="checkpoint to start from (default: the one that is shipped)")
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of everything (default: %(default)s)")
    for name, what in (("steps", "of either training"), ("planned", "pictures with a plan, in a step"),
                       ("pictures", "pictures without a plan, in a step"), ("questions", "questions, in a step")):
        parser.add_argument(f"--{name}", type=in_range(int, 1), metavar="N", default=getattr(ThinkSettings, name),
                            help=f"{what} (default: %(default)s)")
    parser.add_argument("--learning-rate", type=_rate, metavar="R", default=ThinkSettings.learning_rate,
                        help="default: %(default)s")
    parser.add_argument("--wrong-captions", type=in_range(float, 0, 1), metavar="P",
                        default=SampleSettings.wrong_captions,
                        help="share of captions that are wrong, as in pretraining (default: %(default)s)")
    parser.add_argument("--prompts-per-category", type=in_range(int, 1), metavar="N", default=40,
                        help="held-out prompts to draw for (default: %(default)s)")
    parser.add_argument("--understanding-pictures", type=in_range(int, 1), metavar="N", default=128,
                        help="held out, drawn, that each model is asked about (default: %(default)s)")
    parser.add_argument("--guidance", type=_scales, metavar="A,B", default=(1.0, 2.0), help="default: 1,2")
    parser.add_argument("--save-seconds", type=float, metavar="S", default=60.0, help="between two saved states")
    return parser


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, found {text}")
    return value


def _scales(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if len(set(values)) < len(values) or not all(0 < value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"expected different positive numbers such as 1,2; found {text}")
    return values


if __name__ == "__main__":
    sys.exit(main())
