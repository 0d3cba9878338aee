"""All steps of the study of rounds; see `experiments.tiny_suder`."""

import os
import time
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from experiments._tiny_methods.tables import guidance_table
from experiments._tiny_rounds import SHUFFLED, prepare
from experiments._tiny_study.exam import Exam
from experiments._tiny_study.statistics import difference, mean_interval
from experiments._tiny_study.steps import Study
from experiments._tiny_study.table import BASE, category_table, markdown, percent, points, stacked, write_tables
from experiments._tiny_study.understanding import understanding_table
from experiments._tiny_suder.captions import WAYS, right_captions
from srum_jax.experiment import load_recipe
from srum_jax.overrides import to_json


def run_rounds(study: Study, base: epath.Path, experiment: str, arms: Sequence[str]) -> None:
    """Trains and examines; prints the tables and writes them to `OUT/table.md`.

    Args:
      study: that was begun.
      base: checkpoint that all arms start from.
      experiment: whose variants they are.
      arms: names of variants.
    """
    started, exam = time.monotonic(), Exam(study)
    models = {BASE: [base] * study.settings.seeds}
    exam.take(BASE, models[BASE])
    for arm in arms:
        models[arm] = [_model(study, base, experiment, arm, seed) for seed in range(study.settings.seeds)]
        exam.take(arm, models[arm])
    write_tables(study.out, _tables(exam, models), "sentences or pictures")
    print(f"{(time.monotonic() - started) / 60:.1f} minutes now")


def _model(study: Study, base: epath.Path, experiment: str, arm: str, seed: int) -> epath.Path:
    name = f"{experiment}:{arm}"
    recipe = load_recipe(name).experiment
    inputs = prepare(recipe, study.out).rollouts  # common to all arms
    given = {"rollouts.prompts": inputs.prompts, "rollouts.pictures": inputs.pictures}
    return study.trained(name, arm, seed, base, to_json(recipe), {
        **given, "rollouts.audit_every": 0, "rollouts.gradient_norms": False}, given)


def _tables(exam: Exam, models: Mapping[str, Sequence[epath.Path]]) -> dict[str, str]:
    """By title."""
    tables = {}
    marks = {way: {name: exam.marks(name, way) for name in models} for way in exam.ways}
    for way in exam.ways:
        fit = {name: stacked(runs, "fit") for name, runs in marks[way].items()}
        notes = {name: f"{exam.guidance(name, way):g}" for name in models}
        tables[f"Pictures that fit, {exam.title(way)}"] = shares_table(fit, "guidance", notes)
    for way in exam.ways:
        tables[f"Pictures that fit by category, {exam.title(way)}, %"] = category_table(marks[way], exam.prompts)
    tables["Choice of guidance"] = guidance_table({name: exam.validation_scores(name) for name in models})
    if exam.study.base.captions:
        told = {name: [right_captions(exam.study.out / "marks" / name / f"captions-{seed}.json", os.fspath(checkpoint),
                                      len(exam.prompts)) for seed, checkpoint in enumerate(runs)]
                for name, runs in models.items()}
        for way in WAYS:
            tables[f"Captions that are right, {way}"] = shares_table(
                {name: np.stack([run[way] for run in runs]) for name, runs in told.items()})
    answers = {name: exam.understanding(name) for name in models}
    tables["Understanding, on drawn pictures"] = understanding_table(answers)
    return tables


def shares_table(values: Mapping[str, np.ndarray], noted: str = "", notes: Mapping[str, str] | None = None) -> str:
    """A row per model: its share, and the differences to the base and to the control, of all runs and of each.

    Args:
      values: float64 [S, P], marks by model, of S runs for P sentences or pictures; the base's among them.
      noted, notes: a further column, its head and what stands in it.
    """
    runs = range(len(values[BASE]))
    others = [BASE, *([SHUFFLED] if SHUFFLED in values else [])]
    rows = [["model", *([noted] if noted else []), "share, %", *(f"against {other}" for other in others),
             *(f"run {run} against {other}" for other in others for run in runs)]]
    for name, found in values.items():
        row = [name, *([notes[name]] if notes else []), percent(mean_interval(found))]
        row += [_against(name, found, other, values[other]) for other in others]
        row += [_against(name, found[[run]], other, values[other][[run]]) for other in others for run in runs]
        rows.append(row)
    return markdown(rows)


def _against(name: str, values: np.ndarray, other: str, others: np.ndarray) -> str:
    return "" if name == other else points(difference(values, others))
