"""Trains a unified multimodal model on reward records."""

import argparse
import json
import logging
import sys
import time
import traceback
from collections.abc import Sequence

import jax
from etils import epath
from jax.experimental import multihost_utils

from srum_jax.data.errors import DataError
from srum_jax.distributed import join
from srum_jax.errors import ANTICIPATED, tell
from srum_jax.experiment import ExperimentError, Recipe, experiment_names, load_recipe
from srum_jax.overrides import apply_overrides, to_json
from srum_jax.process_watch import ProcessWatch
from srum_jax.stages import noted
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import write_text
from srum_jax.storage.errors import AccessError
from srum_jax.training.experiment import Experiment
from srum_jax.training.loop import Ending, Outcome, train

CONFIG_FILE = "config.json"

# What may change between the runs of one work directory without making them different experiments.
_MAY_CHANGE = ("training.", "mesh.", "compute.", "data.num_workers", "data.num_threads", "data.prefetch",
               "data.on_bad_record", "name")

_EPILOG = """
examples:
  python -m srum_jax.train --experiment=tiny --workdir runs/tiny
  python -m srum_jax.train --experiment=bagel_cot --workdir gs://bucket/run \\
      --set model.checkpoint=gs://bucket/bagel --set data.records=gs://bucket/records
  python -m srum_jax.train --experiment=my_run.py --set training.steps=200 --set mesh.fsdp=8
  python -m srum_jax.train --experiment=bagel_lambda_sweep:0.25 ...

A run goes on from its newest checkpoint when the same command is given again. Of its settings, training.*, mesh.*,
compute.* and those of data.* that decide speed may then be others.

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
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a traceback of whatever it raises as well
    watch = None
    try:
        if args.distributed:
            watch = join()
            sys.excepthook = lambda *error: _report_and_leave(watch, *error)
        outcome = run(args.experiment, args.set, args.workdir, began)
    except (*ANTICIPATED, *object_store.driver_errors()) as error:  # a bucket that did not answer others than us
        code = tell(error)
        if watch is not None:
            watch.abandon(code, error)
        return code
    except KeyboardInterrupt:
        print("interrupted; give the same command again to go on from the newest checkpoint", file=sys.stderr)
        if watch is not None:
            watch.abandon(130, "interrupted from the keyboard")
        return 130
    if watch is not None:
        watch.close()
    _summarise(outcome)
    return 0


def run(name: str, settings: Sequence[str], workdir: str | None, began: float | None = None) -> Outcome:
    """Builds an experiment and trains it; see `--help` for the arguments, `train` for `began`."""
    recipe = load_recipe(name)
    experiment = apply_overrides(recipe.experiment, settings)
    directory = epath.Path(workdir or f"runs/{experiment.name}")
    # The first process writes what all of them read, while the others wait.
    first = not jax.distributed.is_initialized() or jax.process_index() == 0
    if first:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExperimentError(f"--workdir {directory}: cannot be made ({error}).") from error
        try:
            _remember_settings(experiment, directory)
        except AccessError as error:
            raise ExperimentError(f"--workdir {directory}: the bucket refuses it ({error}); expected credentials with "
                                  "the role roles/storage.objectAdmin on it.") from error
        experiment = _prepared(recipe, experiment, directory)
    if jax.distributed.is_initialized():
        multihost_utils.sync_global_devices("prepared")
    if not first:
        experiment = _prepared(recipe, experiment, directory)
    return train(experiment, directory, began)


def _prepared(recipe: Recipe, experiment: Experiment, directory: epath.Path) -> Experiment:
    try:
        return experiment if recipe.prepare is None else recipe.prepare(experiment, directory)
    except DataError as error:  # records that were there before, and are not what this run needs
        raise ExperimentError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m srum_jax.train", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--experiment", required=True, metavar="NAME_OR_PATH",
                        help=f"one of {', '.join(experiment_names())}; or a .py file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override one setting; repeatable")
    parser.add_argument("--workdir", help="where checkpoints and logs go; default: runs/NAME")
    parser.add_argument("--distributed", action="store_true", help="this is one of several processes of the same run")
    return parser


def _remember_settings(experiment: Experiment, directory: epath.Path) -> None:
    """Writes the settings into a new work directory; refuses one that was begun with others.

    Raises:
      RunChangedError: listing the differences.
      ExperimentError: another version began it, or it cannot be written to.
      AccessError, OSError: of the bucket.
    """
    path = directory / CONFIG_FILE
    current = to_json(experiment)
    if object_store.exists(path):
        unshared = noted.unshared_names(noted.read(path, "--workdir"), current)
        if unshared:
            raise ExperimentError(f"{path}: another version of this program began this run, with other settings "
                                  f"({', '.join(unshared[:5])}); use another --workdir, or that version.")
        noted.compare(path, current, option="--workdir", may_change=_MAY_CHANGE)
    try:
        write_text(path, json.dumps(current, indent=1) + "\n")
    except OSError as error:
        if not object_store.is_local(directory) and not isinstance(error.__cause__, AccessError):
            raise  # a bucket that does not answer for a while: another start may help
        raise ExperimentError(f"--workdir {directory}: cannot be written to ({error}).") from error


def _summarise(outcome: Outcome) -> None:
    ending = "done" if outcome.ending is Ending.FINISHED else "stopped as asked"
    print(f"{ending} after step {outcome.step}")
    if outcome.bad_records:
        total = sum(outcome.bad_records.values())
        print(f"{total} places were left empty because their record could not be used:")
        for reason, count in sorted(outcome.bad_records.items()):
            print(f"  {count:6d}  {reason}")


def _report_and_leave(watch: ProcessWatch, kind, error, trace) -> None:
    traceback.print_exception(kind, error, trace)
    watch.abandon(1, error)


if __name__ == "__main__":
    sys.exit(main())
