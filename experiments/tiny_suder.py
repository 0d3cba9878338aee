"""What rounds of SUDER teach a tiny model of the shapes world, beside the same rounds with shuffled rewards.

Every arm is a variant of `suder_tiny` (`suder_tiny_bagel`), trained by the command that users run. An oracle then marks
pictures for held-out sentences, without guidance and with the guidance that suits each model best, and captions of
held-out pictures. The protocol: docs/suder.md. Everything is kept in --out; the same command goes on where it was, and
takes more arms.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from experiments import suder_tiny, suder_tiny_bagel
from experiments._argument_types import local_folder
from experiments._tiny_study.arguments import EXIT_CODES, chosen_names
from experiments._tiny_study.settings import StudySettings
from srum_jax.command_line import in_range
from srum_jax.stages.interruption import run_command

_SIZE = StudySettings(steps=40, learning_rate=2e-4, seeds=2, evaluation_prompts_per_category=40,
                      validation_prompts_per_category=20, guidance=(1.0, 1.25, 1.5), new_sentences=True)
# Experiment, its variants, and the size of the study by base.
_BASES = {
    "janus": ("suder_tiny", suder_tiny.VARIANTS, _SIZE),
    "bagel": ("suder_tiny_bagel", suder_tiny_bagel.VARIANTS,
              dataclasses.replace(_SIZE, learning_rate=2e-5, guidance=(2.0, 4.0, 6.0))),
}
_NUMBERS = ("seeds", "steps", "evaluation_prompts_per_category", "validation_prompts_per_category",
            "understanding_pictures")
_EPILOG = """
examples:
  python -m experiments.tiny_suder --out runs/suder                                # every arm, two seeds
  python -m experiments.tiny_suder --out runs/bagel --base bagel --arms weighted --seeds 1
""" + EXIT_CODES


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    return run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    experiment, variants, size = _BASES[args.base]
    arms = list(variants) if args.arms is None else chosen_names("--arms", args.arms, list(variants))
    given = {name: getattr(args, name) for name in _NUMBERS if getattr(args, name) is not None}
    # These import JAX, which takes seconds.
    from experiments._tiny_bases.bases import BASES
    from experiments._tiny_study.steps import Study
    from experiments._tiny_study.work import at_work
    from experiments._tiny_suder.whole_study import run_rounds
    from srum_jax.devices import start_devices

    start_devices()
    base = BASES[args.base].checkpoint()
    study = Study.begin(args.out, dataclasses.replace(size, **given), base)
    with at_work(study, 1):
        run_rounds(study, base, experiment, arms)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.tiny_suder", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=local_folder, metavar="DIR",
                        help="new, or begun by the same command")
    parser.add_argument("--base", choices=_BASES, default="janus", help="default: %(default)s")
    parser.add_argument("--arms", metavar="A,B", help="default: all; " + "; ".join(
        f"{base}: {', '.join(variants)}" for base, (_, variants, _) in _BASES.items()))
    for name in _NUMBERS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=in_range(int, 1), metavar="N",
                            help=f"default: {getattr(_SIZE, name)}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
