"""Trains a unified multimodal model on reward records."""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence

from etils import epath

from srum_jax import command_line
from srum_jax.command_line import user_path
from srum_jax.errors import ANTICIPATED, tell
from srum_jax.experiment import experiment_names, load_recipe
from srum_jax.overrides import add_set_argument, apply_overrides
from srum_jax.training.experiment import Experiment

_EPILOG = """
examples:
  python -m srum_jax.train --experiment=tiny --workdir runs/tiny
  python -m srum_jax.train --experiment=bagel_cot --workdir gs://bucket/run \\
      --set model.checkpoint=gs://bucket/bagel --set data.records=gs://bucket/records
  python -m srum_jax.train --experiment=my_run.py --set training.steps=200 --set mesh.fsdp=8
  python -m srum_jax.train --experiment=bagel_lambda_sweep:0.25 ...

A run goes on from its newest checkpoint when the same command is given again. Of its settings, training.*, mesh.*,
compute.* and those of data.* that decide speed may then be others, and weights and records may lie elsewhere. One run
at a time may work in a directory. The values above are those of the experiment that stands beside --help, and without
one those of a new experiment, whose rows.* depend on the family.

On several hosts, start the same command with --distributed on each of them. On Cloud TPU, GKE and Slurm the hosts find
each other; elsewhere set JAX_COORDINATOR_ADDRESS (HOST:PORT of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID. When
one of them fails or is lost, all end.

exit codes:
  0    done, or stopped by SIGTERM after saving
  1    training failed, or another process was lost or did not come; the last checkpoint is intact
  2    the arguments, settings, environment variables or files cannot be used
  130  interrupted from the keyboard
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    began = time.monotonic()
    args = _parser(_shown(argv)).parse_args(argv)
    command_line.set_up_streams()
    try:
        recipe = load_recipe(args.experiment)
        experiment = apply_overrides(recipe.experiment, args.set)
    except ANTICIPATED as error:
        return tell(error)
    # Imports JAX, which takes seconds.
    from srum_jax.training.run import run_command

    return run_command(experiment, epath.Path(args.workdir or f"runs/{experiment.name}"), recipe.prepare,
                       distributed=args.distributed, began=began)


def _shown(argv: Sequence[str] | None) -> Experiment:
    """Whose settings `--help` lists: those of the experiment that is named, if one is."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--experiment", type=user_path)
    first.add_argument("-h", "--help", action="store_true")
    found, _ = first.parse_known_args(argv)
    if found.help and found.experiment:
        with contextlib.suppress(ANTICIPATED):
            return load_recipe(found.experiment).experiment
    return Experiment("")


def _parser(shown: Experiment) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m srum_jax.train", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--experiment", required=True, type=user_path, metavar="NAME_OR_PATH",
                        help=f"one of {', '.join(experiment_names())}; or a .py file")
    parser.add_argument("--workdir", type=user_path, help="where checkpoints and logs go; default: runs/NAME")
    parser.add_argument("--distributed", action="store_true", help="this is one of several processes of the same run")
    add_set_argument(parser, shown)
    return parser


if __name__ == "__main__":
    sys.exit(main())
