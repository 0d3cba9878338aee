"""SRUM against supervised fine-tuning and the base, in the shapes world, where an oracle knows the truth.

The shipped base draws candidates, a small SAM proposes regions, the base itself judges them, and models are trained on
the records: through the very commands that a model of 7 B parameters goes through. Pictures for held-out prompts are
then marked by the oracle. Everything is kept in --out; the same command goes on where it was.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from experiments._argument_types import local_folder
from experiments._tiny_bases.bases import BASES
from experiments._tiny_recipe import VARIANTS
from experiments._tiny_study.arguments import EXIT_CODES, add_study_arguments, chosen_names, given_numbers
from experiments._tiny_study.settings import StudySettings
from experiments._tiny_study.steps import Study
from experiments._tiny_study.work import at_work
from srum_jax.stages.interruption import run_command

QUICK = StudySettings(
    prompts_per_category=48, candidates=2, steps=150, learning_rate=2e-4, seeds=1, evaluation_prompts_per_category=40,
    validation_prompts_per_category=4, guidance=(2.0,),
)

_EPILOG = """
examples:
  python -m experiments.tiny_study --quick --out runs/quick          # base, SFT and SRUM, some minutes on two cores
  python -m experiments.tiny_study --out runs/study                  # all variants, three seeds
  python -m experiments.tiny_study --out runs/mine --variants sft,paper --steps 600 --learning-rate 5e-5
  python -m experiments.tiny_study --base janus --quick --out runs/janus
  python -m experiments.tiny_study --out runs/cot --base runs/think/thinker --think    # see experiments.tiny_think
""" + EXIT_CODES


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    return run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = _settings(args)
    variants = _variants(args)
    # These import JAX, which takes seconds.
    from experiments._tiny_study.whole_study import run_study
    from srum_jax.devices import start_devices

    start_devices()
    base = BASES[args.base].checkpoint() if args.base in BASES else local_folder(args.base)
    study = Study.begin(args.out, settings, base)
    second_round = not args.quick if args.second_round is None else args.second_round
    with at_work(study, args.jobs) as work:
        run_study(work, base, variants, second_round=second_round)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.tiny_study", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="bagel", metavar="NAME",
                        help=f"to start from: {', '.join(BASES)}, which are shipped, or the folder of a checkpoint "
                             "(default: %(default)s)")
    parser.add_argument("--variants", metavar="A,B", help=f"of {', '.join(VARIANTS)} (default: all; quick: sft,paper)")
    parser.add_argument("--second-round", action=argparse.BooleanOptionalAction,
                        help="let the improved model draw and judge again (default: it does, but not with --quick)")
    parser.add_argument("--think", action="store_true", help="candidates are planned first, and models are examined "
                        "with plans as well; for a base that plans (experiments.tiny_think makes one)")
    add_study_arguments(parser, StudySettings(), QUICK)
    return parser


def _settings(args: argparse.Namespace) -> StudySettings:
    size = QUICK if args.quick else StudySettings()
    return dataclasses.replace(size, think=args.think, **given_numbers(args))


def _variants(args: argparse.Namespace) -> list[str]:
    if args.variants is None:
        return ["sft", "paper"] if args.quick else list(VARIANTS)
    return chosen_names("--variants", args.variants, list(VARIANTS))


if __name__ == "__main__":
    sys.exit(main())
