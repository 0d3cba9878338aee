"""What teaches a model by its own judgement more than stronger guidance does, in the shapes world.

One base draws several candidates for each sentence and judges them; every arm trains on these records in its own way,
through the commands that a model of 7 B parameters goes through. An oracle then marks pictures for held-out sentences,
without guidance and with the guidance that suits each model best; --confirm repeats the latter with more power. The
protocol: docs/tiny_methods.md. Everything is kept in --out; the same command goes on where it was.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from experiments._tiny_methods.arms import ARMS, QUICK_ARMS
from experiments._tiny_study.arguments import EXIT_CODES, add_study_arguments, chosen_names, given_numbers
from experiments._tiny_study.errors import SettingsError
from experiments._tiny_study.settings import StudySettings
from experiments._tiny_study.work import at_work
from srum_jax.stages.interruption import run_command

WHOLE = StudySettings(
    prompts_per_category=80, candidates=4, candidate_guidance=4.0, steps=250, learning_rate=2e-4, seeds=3,
    evaluation_prompts_per_category=60, validation_prompts_per_category=40, guidance=(1.5, 2.5, 4.0, 6.0, 8.0),
    new_sentences=True,
)
QUICK = dataclasses.replace(
    WHOLE, prompts_per_category=24, steps=150, seeds=1, evaluation_prompts_per_category=40,
    validation_prompts_per_category=12, guidance=(2.0, 4.0, 6.0),
)
_EPILOG = """
examples:
  python -m experiments.tiny_methods --quick --out runs/quick     # base, SFT and the best method, some minutes
  python -m experiments.tiny_methods --out runs/methods           # all arms, three seeds
  python -m experiments.tiny_methods --out runs/methods --arms sft,best --confirm  # a second examination of these
  python -m experiments.tiny_methods --out runs/mine --arms sft,best --seeds 1
""" + EXIT_CODES


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    return run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = dataclasses.replace(QUICK if args.quick else WHOLE, **given_numbers(args))
    names = _names(args)
    # These import JAX, which takes seconds.
    from experiments._tiny_methods.whole_study import run_methods
    from experiments._tiny_study.steps import Study
    from srum_jax.devices import start_devices
    from srum_jax.worlds.shapes.base import trained_base

    start_devices()
    study = Study.begin(args.out, settings, trained_base())
    with at_work(study, args.jobs) as work:
        run_methods(work, trained_base(), names, confirm=args.confirm)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.tiny_methods", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", metavar="A,B",
                        help=f"of {', '.join(ARMS)} (default: all; quick: {','.join(QUICK_ARMS)})")
    parser.add_argument("--confirm", action="store_true",
                        help="mark the arms' models a second time, on more sentences and with several pictures of each")
    add_study_arguments(parser, WHOLE, QUICK)
    return parser


def _names(args: argparse.Namespace) -> list[str]:
    if args.arms is None:
        return list(QUICK_ARMS if args.quick else ARMS)
    names = chosen_names("--arms", args.arms, list(ARMS))
    for name in names:
        if (before := ARMS[name].after) is not None and before not in names:
            raise SettingsError(f"--arms: expected {before!r} beside {name!r}, which goes on from it.")
    return names


if __name__ == "__main__":
    sys.exit(main())
