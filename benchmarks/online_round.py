"""Where the time of a round of SUDER goes: by phase, and how much of it is not in compiled programs.

  python -m benchmarks.online_round
  python -m benchmarks.online_round --rounds 5 --json online_round.json
  python -m benchmarks.online_round --experiment suder_janus --set model.checkpoint=Janus-Pro-1B \\
      --set rollouts.prompts=prompts.txt --set rollouts.pictures=pictures

Runs an experiment as training does, without audits. The first round compiles and is left out. Every program is waited
for, so that its own time is known: what the host does meanwhile in training stands apart here, and the overhead of the
round over its bare programs is the most that it can be. The default is the tiny world on two cores; only shares mean
something beyond the machine.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import user_path
from srum_jax.errors import ANTICIPATED, BadInput, tell
from srum_jax.experiment import load_recipe
from srum_jax.overrides import add_set_argument, apply_overrides
from srum_jax.storage.atomic_file import write_json
from srum_jax.training.experiment import Experiment

UPDATE, REST = "update", "selecting and packing"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser(argv).parse_args(argv)
    try:
        recipe = load_recipe(args.experiment)
        experiment = apply_overrides(recipe.experiment, args.set)
        if experiment.rollouts is None:
            raise BadInput(f"--experiment {args.experiment}: expected one with rollouts, found one over records.")
        with tempfile.TemporaryDirectory() as directory:
            workdir = epath.Path(directory)
            if recipe.prepare is not None:
                experiment = recipe.prepare(experiment, workdir)
            report = measure(experiment, workdir, args.rounds)
    except ANTICIPATED as error:
        return tell(error)
    table = as_table(report)
    print(table)
    if args.json:
        write_json(args.json, report)
    return 0


def measure(experiment: Experiment, workdir: epath.Path, rounds: int) -> dict[str, Any]:
    """Means over `rounds` rounds.

    Raises:
      BadInput, Failure: as of training.
    """
    import jax  # takes seconds

    from srum_jax.training.loop import train

    # One more to compile in, and one more whose beginning ends the last.
    steps = (rounds + 2) * experiment.rollouts.steps_per_round
    experiment = dataclasses.replace(
        experiment, rollouts=dataclasses.replace(experiment.rollouts, audit_every=0),
        training=dataclasses.replace(experiment.training, steps=steps, save_every=steps, log_every=1))
    with _watched() as watch:
        train(experiment, workdir)
    phases: collections.Counter[str] = collections.Counter()
    wall = bare = made = written = 0.0
    for first, second in zip(watch.rounds[1:-1], watch.rounds[2:], strict=True):
        seconds = second.began - first.began
        in_round = dict(first.seconds) | {UPDATE: second.in_steps - first.in_steps}
        phases.update(in_round | {REST: seconds - sum(in_round.values())})
        wall, bare = wall + seconds, bare + second.in_programs - first.in_programs
        made, written = made + first.pictures, written + first.tokens
    return {
        "experiment": experiment.name, "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": len(os.sched_getaffinity(0)), "rounds": rounds, "seconds_a_round": wall / rounds,
        "seconds_by_phase": {name: value / rounds for name, value in phases.items()},
        "programs_seconds_a_round": bare / rounds, "overhead": wall / bare - 1,
        "pictures_per_second": made / max(phases["generation_outputs"], 1e-9),
        "tokens_per_second": written / max(phases["understanding_outputs"], 1e-9),
    }


@dataclasses.dataclass
class _Begun:
    """A round, and what had been spent before it began."""

    began: float
    in_programs: float
    in_steps: float
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    pictures: int = 0
    tokens: int = 0


class _Watch:
    """Times every compiled program, each waited for."""

    def __init__(self):
        self.in_programs = self.in_steps = 0.0
        self.rounds: list[_Begun] = []

    def timed(self, function: Callable, *, step: bool = False) -> Callable:
        """The same function, whose time counts."""
        import jax

        def called(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = jax.block_until_ready(function(*arguments, **named))
            seconds = time.perf_counter() - began
            self.in_programs += seconds
            self.in_steps += seconds if step else 0.0
            return result

        return called

    def drawing(self, draw_round: Callable) -> Callable:
        """The same function, whose rounds are noted."""

        def called(*arguments: Any) -> Any:
            begun = _Begun(time.perf_counter(), self.in_programs, self.in_steps)
            self.rounds.append(begun)
            drawn = draw_round(*arguments)
            begun.seconds = drawn.seconds
            begun.pictures = sum(len(group.outputs) for group in drawn.groups if group.direction == "generation")
            begun.tokens = sum(group.tokens for group in drawn.groups)
            return drawn

        return called


@contextlib.contextmanager
def _watched() -> Iterator[_Watch]:
    from srum_jax.inference.programs import Programs
    from srum_jax.rollouts import source
    from srum_jax.training import loop

    watch = _Watch()
    inner = Programs.run, loop.compile_step, source.draw_round

    def run(self: Programs, compiled: Callable, *arguments: Any) -> Any:
        return watch.timed(inner[0])(self, compiled, *arguments)

    def compile_step(*arguments: Any) -> Callable:
        compiled = inner[1](*arguments)
        called = watch.timed(compiled, step=True)
        called.memory_analysis = compiled.memory_analysis
        return called

    Programs.run, loop.compile_step, source.draw_round = run, compile_step, watch.drawing(inner[2])
    try:
        yield watch
    finally:
        Programs.run, loop.compile_step, source.draw_round = inner


def as_table(report: dict[str, Any]) -> str:
    """Markdown."""
    whole, per_second = report["seconds_a_round"], "{:.3g} pictures and {:.3g} tokens of captions a second"
    lines = [f"`{report['experiment']}`, {report['device']}, {report['cores']} cores, mean of {report['rounds']} "
             "rounds", "", "| phase | seconds a round | share |", "|---|---|---|"]
    lines += [f"| {name.replace('_', ', ')} | {seconds:.3g} | {100 * seconds / whole:.1f} % |"
              for name, seconds in report["seconds_by_phase"].items()]
    lines += [f"| all | {whole:.3g} | 100 % |", "",
              f"{per_second.format(report['pictures_per_second'], report['tokens_per_second'])} while they are drawn. "
              f"Programs take {report['programs_seconds_a_round']:.3g} s of a round; its overhead over them is "
              f"{100 * report['overhead']:.1f} %."]
    return "\n".join(lines)


def _parser(argv: Sequence[str] | None) -> argparse.ArgumentParser:
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--experiment", default="suder_tiny_bagel")
    found, _ = first.parse_known_args(argv)
    shown = Experiment("")
    with contextlib.suppress(*ANTICIPATED):
        shown = load_recipe(found.experiment).experiment
    parser = argparse.ArgumentParser(prog="python -m benchmarks.online_round", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="suder_tiny_bagel", metavar="NAME",
                        help="whose rounds (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="that are measured (default: %(default)s)")
    add_set_argument(parser, shown)
    parser.add_argument("--json", type=user_path, metavar="FILE", help="write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
