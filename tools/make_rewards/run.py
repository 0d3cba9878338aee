"""Runs generate, segment, judge and export one after the other, with the settings of an experiment.

Each stage goes on where it was. The commands are printed as they are started, so that any of them can be given by hand.
"""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence

from etils import epath

from srum_jax import generate
from srum_jax.command_line import in_range, user_path
from srum_jax.errors import BadInput
from srum_jax.experiment import experiment_names
from srum_jax.stages import GENERATE
from srum_jax.stages.folder import StageFolder
from srum_jax.stages.interruption import run_command
from srum_jax.storage.no_trace import entries_go_if_refused, folder_goes_if_refused
from tools.make_rewards import export, judge, segment
from tools.make_rewards.runners import local
from tools.make_rewards.runners.cluster import Cluster
from tools.make_rewards.stage_recipe import (
    STAGES,
    add_input_arguments,
    check_command_lines,
    read_stage_recipe,
    with_inputs,
)

SUMMARY = "all stages, from prompts to verified records"
_MODULES = {"generate": generate, "segment": segment, "judge": judge, "export": export}
_ROWS_LEFT_OUT = 3  # an exit code: done, but with less than asked for

RunStage = Callable[[str, Sequence[str]], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--experiment", type=user_path, required=True, metavar="NAME_OR_PATH",
                        help=f"one of {', '.join(experiment_names())}, or a .py file; its function rewards(folder) "
                             "states the arguments of the stages")
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="new, or begun by the same command")
    add_input_arguments(parser)
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage (default: %(default)s)")
    parser.add_argument("--runner", choices=("local", "ray"), default="local",
                        help="local: this machine (default); ray: a Ray cluster whose workers all see --out")
    group = parser.add_argument_group("ray")
    group.add_argument("--num-workers", type=in_range(int, 1), default=2, metavar="N",
                       help="shares of a stage (default: 2)")
    group.add_argument("--ray-address", metavar="HOST:PORT", help="of a running cluster, or auto (default: one of this "
                                                                  "machine's cores, started for the run)")
    for kind, default in (("cpus", 1), ("gpus", 0), ("tpus", 0)):
        group.add_argument(f"--worker-{kind}", type=float, default=default, metavar="X",
                           help=f"{kind.upper()} that a worker needs (default: {default})")


def run(arguments: argparse.Namespace) -> int:
    """The subcommand; returns the exit code."""
    out = epath.Path(arguments.out)
    with (folder_goes_if_refused(out),
          entries_go_if_refused(out, until=StageFolder(out, GENERATE, num_shards=1).settings.exists)):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    recipe = with_inputs(read_stage_recipe(arguments.experiment, epath.Path(arguments.out)), arguments)
    check_command_lines(recipe, arguments.out, _MODULES)
    worst = 0
    with _runner(arguments) as run_stage:
        for stage in STAGES[: STAGES.index(arguments.until) + 1]:
            words = recipe.command_line(stage, arguments.out)
            print(f"$ python -m tools.make_rewards {stage} {shlex.join(words)}", flush=True)
            # The records are written by one process.
            code = local.run_stage(stage, words) if stage == "export" else run_stage(stage, words)
            worst = max(worst, code)
            if code == BadInput.exit_code:  # it has said why
                raise BadInput(f"{stage} ended with exit code {code}; the later stages were not started")
            if code not in (0, _ROWS_LEFT_OUT):
                print(f"error: {stage} ended with exit code {code}; the later stages were not started", file=sys.stderr)
                return code
    return worst


@contextlib.contextmanager
def _runner(arguments: argparse.Namespace) -> Iterator[RunStage]:
    if arguments.runner == "local":
        yield local.run_stage
        return
    with Cluster(run_share, arguments.num_workers, arguments.ray_address, num_cpus=arguments.worker_cpus,
                 num_gpus=arguments.worker_gpus, num_tpus=arguments.worker_tpus) as cluster:
        yield cluster.run_stage


def run_share(stage: str, words: Sequence[str]) -> int:
    """A stage, or a share of one, in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog=stage)
    _MODULES[stage].add_arguments(parser)
    arguments = parser.parse_args(words)
    return run_command(lambda: _MODULES[stage].run(arguments))
