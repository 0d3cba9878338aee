"""SRUM against supervised fine-tuning and the base, in the shapes world, where an oracle knows the truth.

The shipped base draws candidates, a small SAM proposes regions, the base itself judges them, and models are trained on
the records: through the very commands that a model of 7 B parameters goes through. Pictures for held-out prompts are
then marked by the oracle. Everything is kept in --out; the same command goes on where it was.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from experiments._argument_types import local_folder, positive
from experiments._tiny_bases.bases import BASES
from experiments._tiny_recipe import VARIANTS
from experiments._tiny_study.errors import SettingsError
from experiments._tiny_study.steps import Study, StudySettings
from experiments._tiny_study.work import at_work, default_jobs
from srum_jax.stages.interruption import run_command

QUICK = StudySettings(
    prompts_per_category=48, candidates=2, steps=150, learning_rate=2e-4, seeds=1, evaluation_prompts_per_category=40,
    validation_prompts_per_category=4, guidance=(2.0,),
)
_NOT_A_NUMBER = ("guidance", "think")  # fields of the settings

_EPILOG = """
examples:
  python -m experiments.tiny_study --quick --out runs/quick          # base, SFT and SRUM, some minutes on two cores
  python -m experiments.tiny_study --out runs/study                  # all variants, three seeds
  python -m experiments.tiny_study --out runs/mine --variants sft,paper --steps 600 --learning-rate 5e-5
  python -m experiments.tiny_study --base janus --quick --out runs/janus
  python -m experiments.tiny_study --out runs/cot --base runs/think/thinker --think    # see experiments.tiny_think

exit codes:
  0    done
  1    a step failed; the same command goes on
  2    the arguments or the folder cannot be used
  130  interrupted; the same command goes on
"""


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
    parser.add_argument("--out", required=True, type=local_folder, metavar="DIR",
                        help="new, or begun by the same command")
    parser.add_argument("--quick", action="store_true", help="base, SFT and SRUM alone, small")
    parser.add_argument("--base", default="bagel", metavar="NAME",
                        help=f"to start from: {', '.join(BASES)}, which are shipped, or the folder of a checkpoint "
                             "(default: %(default)s)")
    parser.add_argument("--variants", metavar="A,B", help=f"of {', '.join(VARIANTS)} (default: all; quick: sft,paper)")
    parser.add_argument("--second-round", action=argparse.BooleanOptionalAction,
                        help="let the improved model draw and judge again (default: it does, but not with --quick)")
    parser.add_argument("--think", action="store_true", help="candidates are planned first, and models are examined "
                        "with plans as well; for a base that plans (experiments.tiny_think makes one)")
    parser.add_argument("--jobs", type=positive, metavar="N", default=default_jobs(),
                        help="models trained or examined at the same time, each on its share of the cores "
                             "(default: one for each core and 2 GiB of memory, %(default)s here)")
    for field in dataclasses.fields(StudySettings):
        if field.name not in _NOT_A_NUMBER:
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), metavar="N",
                                help=f"default: {field.default:g}, quick: {getattr(QUICK, field.name):g}")
    return parser


def _settings(args: argparse.Namespace) -> StudySettings:
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(StudySettings)
             if field.name not in _NOT_A_NUMBER and getattr(args, field.name) is not None}
    return dataclasses.replace(QUICK if args.quick else StudySettings(), think=args.think, **given)


def _variants(args: argparse.Namespace) -> list[str]:
    if args.variants is None:
        return ["sft", "paper"] if args.quick else list(VARIANTS)
    variants = args.variants.split(",")
    unknown = [name for name in variants if name not in VARIANTS]
    if len(set(variants)) < len(variants):
        raise SettingsError(f"--variants: expected different names, found {args.variants}.")
    if unknown:
        raise SettingsError(f"--variants: expected names among {', '.join(VARIANTS)}, found {', '.join(unknown)}.")
    return variants


if __name__ == "__main__":
    sys.exit(main())
