"""All steps of the tiny study, and its tables, plot and pictures; see `experiments.tiny_study`."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from experiments._tiny_study.exam import GUIDED, PLAIN, Exam
from experiments._tiny_study.own_judgement import judgement_table, require_plans
from experiments._tiny_study.picture_grid import write_grid
from experiments._tiny_study.plot import write_plot
from experiments._tiny_study.statistics import difference
from experiments._tiny_study.steps import Study
from experiments._tiny_study.table import (
    BASE,
    SFT,
    MarksOfModels,
    category_table,
    overall_table,
    points,
    stacked,
    write_tables,
)
from experiments._tiny_study.tasks import Examination, Training
from experiments._tiny_study.understanding import understanding_table
from experiments._tiny_study.work import Work

_ROUND_TWO, _ROUND_TWO_MODELS = "paper, 2nd round", "paper-round2"


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
    show(exam, _tables(study, exam, models, rounds), models, (name for name in (SFT, "paper") if name in variants))
    print(f"{(time.monotonic() - started) / 60:.1f} minutes now")


def show(exam: Exam, tables: Mapping[str, str], models: Iterable[str], chosen: Iterable[str]) -> None:
    """Prints tables, by title, and writes them to `OUT/table.md`; plot and pictures beside them.

    Args:
      exam: of the study.
      tables: by title.
      models: that are in the plot.
      chosen: whose pictures are shown beside those of the base.
    """
    out = exam.study.out
    write_tables(out, tables, "prompts")
    write_plot(out / "plot.png", {exam.title(way): {name: exam.marks(name, way) for name in models}
                                  for way in exam.ways})
    write_grid(out / "pictures.png", exam.shown_prompts, {
        f"{name}{ending}": exam.shown_pictures(name, way)
        for way, ending in ((PLAIN, ", unguided"), (GUIDED, "")) for name in (BASE, *chosen)})
    print(f"{out}: plot.png, pictures.png")


def _tables(study: Study, exam: Exam, models: Iterable[str], rounds: Mapping[str, epath.Path]) -> dict[str, str]:
    """By title."""
    judged = judgement_table(study.out / "own_judgement.json", rounds, study.base.grid)
    tables = {"What it thought of its own candidates": judged}
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
