"""SRUM against supervised fine-tuning and the base, in the shapes world, where an oracle knows the truth.

The shipped base draws candidates, a small SAM proposes regions, the base itself judges them, and models are trained on
the records: through the very commands that a model of 7 B parameters goes through. Pictures for held-out prompts are
then marked by the oracle. Everything is kept in --out; the same command goes on where it was.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from experiments._argument_types import local_folder, positive
from experiments._tiny_recipe import VARIANTS
from experiments._tiny_study.errors import SettingsError
from experiments._tiny_study.exam import GUIDED, PLAIN, Exam
from experiments._tiny_study.own_judgement import judgement_table, require_plans
from experiments._tiny_study.picture_grid import write_grid
from experiments._tiny_study.plot import write_plot
from experiments._tiny_study.statistics import difference
from experiments._tiny_study.steps import Study, StudySettings
from experiments._tiny_study.table import (
    BASE,
    SFT,
    MarksOfModels,
    category_table,
    overall_table,
    points,
    stacked,
)
from experiments._tiny_study.tasks import Examination, Training
from experiments._tiny_study.understanding import understanding_table
from experiments._tiny_study.work import Work, at_work, default_jobs
from srum_jax.stages.interruption import run_command
from srum_jax.storage.atomic_file import write_text
from srum_jax.worlds.shapes.base import trained_base

_ROUND_TWO, _ROUND_TWO_MODELS = "paper, 2nd round", "paper-round2"

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
    base = trained_base() if args.base is None else args.base
    study = Study.begin(args.out, settings, base)
    second_round = not args.quick if args.second_round is None else args.second_round
    with at_work(study, args.jobs) as work:
        run_study(work, base, variants, second_round=second_round)


def run_study(work: Work, base: epath.Path, variants: Sequence[str], *, second_round: bool) -> None:
    """All steps; prints the tables and writes them to `OUT/table.md`, with plot and pictures beside them."""
    study, started = work.study, time.monotonic()
    seeds = range(study.settings.seeds)
    rewards = study.rewards(1, base)
    if study.settings.think:
        require_plans(rewards)
    rounds = {"1st round": rewards}
    work.do([Training(variant, seed, os.fspath(rewards), os.fspath(base), variant)
             for variant in variants for seed in seeds])
    models = {BASE: [base for _ in seeds]}
    models |= {name: [study.checkpoint(name, seed) for seed in seeds] for name in variants}
    if second_round and "paper" in variants:
        more = rounds["2nd round"] = study.rewards(2, study.checkpoint("paper", 0))
        work.do([Training("paper", seed, os.fspath(more), os.fspath(study.checkpoint("paper", seed)), _ROUND_TWO_MODELS)
                 for seed in seeds])
        models[_ROUND_TWO] = [study.checkpoint(_ROUND_TWO_MODELS, seed) for seed in seeds]
    work.do([Examination(name, tuple(map(os.fspath, checkpoints))) for name, checkpoints in models.items()])
    exam = Exam(study)
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in _tables(study, exam, models, rounds).items())
    write_text(study.out / "table.md", text + "\n")
    shown = [BASE, *(name for name in (SFT, "paper") if name in variants)]
    _write_grid(study.out / "pictures.png", exam, shown)
    curves = {exam.title(way): {name: exam.marks(name, way) for name in models} for way in exam.ways}
    write_plot(study.out / "plot.png", curves)
    print(f"\n{text}")
    print("\nBrackets: 95 % intervals over prompts. An asterisk: zero lies outside.\n"
          f"{study.out}: table.md, plot.png, pictures.png; {(time.monotonic() - started) / 60:.1f} minutes now")


def _tables(study: Study, exam: Exam, models: Iterable[str], rounds: Mapping[str, epath.Path]) -> dict[str, str]:
    """By title."""
    tables = {"What it thought of its own candidates": judgement_table(study.out / "own_judgement.json", rounds)}
    marks = {way: {name: exam.marks(name, way) for name in models} for way in exam.ways}
    for way in exam.ways:
        guidance = {name: exam.guidance(name, way) for name in models}
        title = f"Held-out prompts, {exam.title(way)}"
        tables[title] = overall_table(marks[way], guidance) + _more(study, way, marks[way], guidance)
    for way in exam.ways:
        tables[f"Share that fits by category, {exam.title(way)}, %"] = category_table(marks[way], exam.prompts)
    answers = {name: exam.understanding(name) for name in models}
    tables["Understanding, on drawn pictures"] = understanding_table(answers)
    tables["The oracle's score by category"] = category_table(marks[GUIDED], exam.prompts, "score")
    return tables


def _more(study: Study, way: str, marks: MarksOfModels, guidance: Mapping[str, float]) -> str:
    """What the table does not show."""
    sentences, scales = [], study.settings.guidance
    if way == GUIDED and len(scales) > 1:
        among, ends = ", ".join(f"{scale:g}" for scale in scales), (min(scales), max(scales))
        at_end = ", ".join(name for name, scale in guidance.items() if scale in ends)
        sentences.append(f"Guidance was chosen among {among}; at an end of these: {at_end or 'none'}.")
    if _ROUND_TWO in marks:
        gain = difference(*(stacked(marks[name], "fit") for name in (_ROUND_TWO, "paper")))
        sentences.append(f"The second round against the first: {points(gain)} points.")
    return "".join(f"\n\n{sentence}" for sentence in sentences)


def _write_grid(path: epath.Path, exam: Exam, names: Sequence[str]) -> None:
    """Pictures of some models for some prompts, with and without guidance."""
    pictures = {f"{name}{ending}": exam.shown_pictures(name, way)
                for way, ending in ((PLAIN, ", unguided"), (GUIDED, "")) for name in names}
    write_grid(path, exam.shown_prompts, pictures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.tiny_study", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=local_folder, metavar="DIR",
                        help="new, or begun by the same command")
    parser.add_argument("--quick", action="store_true", help="base, SFT and SRUM alone, small")
    parser.add_argument("--base", type=local_folder, metavar="DIR",
                        help="checkpoint to start from (default: the one that is shipped)")
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
        return [SFT, "paper"] if args.quick else list(VARIANTS)
    variants = args.variants.split(",")
    unknown = [name for name in variants if name not in VARIANTS]
    if len(set(variants)) < len(variants):
        raise SettingsError(f"--variants: expected different names, found {args.variants}.")
    if unknown:
        raise SettingsError(f"--variants: expected names among {', '.join(VARIANTS)}, found {', '.join(unknown)}.")
    return variants


if __name__ == "__main__":
    sys.exit(main())
