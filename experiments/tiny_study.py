"""SRUM against supervised fine-tuning and the base, in the shapes world, where an oracle knows the truth.

The shipped base draws candidates, a small SAM proposes regions, the base itself judges them, and models are trained on
the records: through the very commands that a model of 7 B parameters goes through. Pictures for held-out prompts are
then marked by the oracle. Everything is kept in --out; the same command goes on where it was.
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence

import jax
from etils import epath

from experiments._tiny_recipe import VARIANTS
from experiments._tiny_study.marks import Examiner, Marks, chosen, load_marks, save_marks
from experiments._tiny_study.own_judgement import judgement_table
from experiments._tiny_study.picture_grid import write_grid
from experiments._tiny_study.plot import write_plot
from experiments._tiny_study.steps import Study, StudyError, StudySettings
from experiments._tiny_study.table import BASE, SFT, category_table, overall_table
from experiments._tiny_study.understanding import understanding_table
from srum_jax.data.atomic_file import write_json, write_text
from srum_jax.worlds.shapes.base import BaseError, trained_base
from srum_jax.worlds.shapes.prompt_set import balanced_prompts
from srum_jax.worlds.shapes.scene import Prompt

_HELD_OUT_SEED, _VALIDATION_SEED = 1001, 1002
_ROUND_TWO = "paper, 2nd round"
_GRID_PROMPTS = 8

QUICK = StudySettings(
    prompts_per_category=48, candidates=2, steps=150, learning_rate=2e-4, seeds=1, evaluation_prompts_per_category=40,
    validation_prompts_per_category=4, guidance=(2.0,),
)

_EPILOG = """
examples:
  python -m experiments.tiny_study --quick --out runs/quick          # base, SFT and SRUM, some minutes on two cores
  python -m experiments.tiny_study --out runs/study                  # all variants, three seeds
  python -m experiments.tiny_study --out runs/mine --variants sft,paper --steps 600 --learning-rate 5e-5

exit codes:
  0    done
  1    a step failed; the same command goes on
  2    the arguments or the folder cannot be used
  130  interrupted; the same command goes on
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    try:
        settings = _settings(args)
        variants = _variants(args)
        base = trained_base() if args.base is None else epath.Path(os.path.abspath(args.base))
        study = Study(epath.Path(os.path.abspath(args.out)), settings)
        _remember(study, base)
        _cache_programs(study.out / "programs")
        run_study(study, base, variants, second_round=args.second_round and not args.quick)
    except (ValueError, BaseError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (StudyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; give the same command again to go on", file=sys.stderr)
        return 130
    return 0


def run_study(study: Study, base: epath.Path, variants: Sequence[str], *, second_round: bool) -> None:
    """All steps; prints the tables and writes them to `OUT/table.md`, with plot and pictures beside them."""
    started, settings = time.monotonic(), study.settings
    exam = Exam(study, balanced_prompts(settings.evaluation_prompts_per_category, _HELD_OUT_SEED, held_out=True),
                balanced_prompts(settings.validation_prompts_per_category, _VALIDATION_SEED, held_out=False))
    for seed in range(settings.seeds):
        exam.take(BASE, seed, lambda: base)
    rewards = study.rewards(1, base)
    rounds = {"1st round": rewards}
    for variant in variants:
        for seed in range(settings.seeds):
            exam.take(variant, seed, lambda v=variant, s=seed: study.model(v, s, rewards, base))
    if second_round and "paper" in variants:
        first = study.model("paper", 0, rewards, base)
        more = rounds["2nd round"] = study.rewards(2, first)
        for seed in range(settings.seeds):
            exam.take(_ROUND_TWO, seed, lambda s=seed: study.model("paper", s, more, first, "paper-round2"))
    tables = {
        "What it thought of its own candidates": judgement_table(study.out / "own_judgement.json", rounds),
        "Held-out prompts, guidance chosen for each model on other prompts": overall_table(exam.marks, exam.guidance),
        "Held-out prompts, without guidance": overall_table(exam.plain, dict.fromkeys(exam.plain, 1.0)),
        "Share that fits by category, %": category_table(exam.marks, exam.prompts),
        "Understanding, on drawn pictures": understanding_table(study.out / "understanding.json", exam.checkpoints),
        "The oracle's score by category": category_table(exam.marks, exam.prompts, "score"),
    }
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in tables.items())
    write_text(study.out / "table.md", text + "\n")
    exam.write_grid(study.out / "pictures.png", [BASE, *(name for name in (SFT, "paper") if name in variants)])
    write_plot(study.out / "plot.png", {"guidance chosen for each model": exam.marks, "without guidance": exam.plain})
    print(f"\n{text}")
    print("\nBrackets: 95 % intervals over prompts. An asterisk: zero lies outside.\n"
          f"{study.out}: table.md, plot.png, pictures.png; {(time.monotonic() - started) / 60:.1f} minutes now")


class Exam:
    """Marks of all models, under the same prompts and noise."""

    def __init__(self, study: Study, prompts: Sequence[Prompt], validation: Sequence[Prompt]):
        self.study, self.prompts, self.validation = study, prompts, validation
        self.marks: dict[str, list[Marks]] = {}  # under the best guidance
        self.plain: dict[str, list[Marks]] = {}  # without guidance
        self.guidance: dict[str, float] = {}
        self.checkpoints: dict[str, epath.Path] = {}

    def take(self, name: str, seed: int, model: Callable[[], epath.PathLike]) -> None:
        """Marks one model, unless that was done before.

        Args:
          name: of the model in the tables.
          seed: of its training and of the noise.
          model: makes its checkpoint, or finds it.
        """
        folder = self.study.out / "marks" / name.replace(", ", "-").replace(" ", "-")
        checkpoint = epath.Path(model())
        self.checkpoints.setdefault(name, checkpoint)
        examiner = functools.cache(lambda: Examiner(checkpoint))
        choice = folder / "guidance.json"
        if not choice.exists():  # by the first run of a model, for all of them
            scores = examiner().best_guidance(self.validation, self.study.settings.guidance, _VALIDATION_SEED)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(choice, scores)
        self.guidance[name] = chosen(json.loads(choice.read_text()))
        for kept, guidance, ending in ((self.marks, self.guidance[name], ""), (self.plain, 1.0, "-plain")):
            path = folder / f"{seed}{ending}.json"
            marks = load_marks(path, self.prompts)
            if marks is None:
                marks = examiner().marks(self.prompts, guidance, seed)
                save_marks(path, self.prompts, marks, guidance=guidance)
            kept.setdefault(name, []).append(marks)
            print(f"{name}, seed {seed}, guidance {guidance:g}: {100 * marks.fit.mean():.1f} % fit, score "
                  f"{marks.score.mean():+.3f}, {100 * marks.well_formed.mean():.1f} % well formed", flush=True)

    def write_grid(self, path: epath.Path, names: Sequence[str]) -> None:
        """Pictures of some models for some prompts."""
        prompts = list(self.prompts[:: max(1, len(self.prompts) // _GRID_PROMPTS)])[:_GRID_PROMPTS]
        write_grid(path, prompts, {name: Examiner(self.checkpoints[name]).draw(prompts, self.guidance[name], 0)
                                   for name in names})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.tiny_study", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="new, or begun by the same command")
    parser.add_argument("--quick", action="store_true", help="base, SFT and SRUM alone, small")
    parser.add_argument("--base", metavar="DIR", help="checkpoint to start from (default: the one that is shipped)")
    parser.add_argument("--variants", metavar="A,B", help=f"of {', '.join(VARIANTS)} (default: all; quick: sft,paper)")
    parser.add_argument("--second-round", action=argparse.BooleanOptionalAction, default=True,
                        help="let the improved model draw and judge again (default: it does)")
    for field in dataclasses.fields(StudySettings):
        if field.name != "guidance":
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), metavar="N",
                                help=f"default: {field.default:g}, quick: {getattr(QUICK, field.name):g}")
    return parser


def _settings(args: argparse.Namespace) -> StudySettings:
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(StudySettings)
             if field.name != "guidance" and getattr(args, field.name) is not None}
    return dataclasses.replace(QUICK if args.quick else StudySettings(), **given)


def _variants(args: argparse.Namespace) -> list[str]:
    if args.variants is None:
        return [SFT, "paper"] if args.quick else list(VARIANTS)
    variants = args.variants.split(",")
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown:
        raise ValueError(f"--variants: expected names among {', '.join(VARIANTS)}, found {', '.join(unknown)}.")
    return variants


def _remember(study: Study, base: epath.Path) -> None:
    """A folder holds one study: another base or other sizes need another one; variants may be added."""
    path = study.out / "study.json"
    settings = json.loads(json.dumps(dataclasses.asdict(study.settings))) | {"base": os.fspath(base)}
    if path.exists():
        found = json.loads(path.read_text())
        changed = [f"{name}: the folder {found.get(name)}, this command {value}" for name, value in settings.items()
                   if found.get(name) != value]
        if changed:
            raise ValueError(f"--out {study.out}: this folder was begun with other settings: {'; '.join(changed)}. Use "
                             "another --out.")
        return
    study.out.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _cache_programs(folder: epath.Path) -> None:
    """Models of one shape share their compiled programs."""
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    sys.exit(main())
