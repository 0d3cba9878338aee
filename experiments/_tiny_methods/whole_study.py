"""All steps of the study of methods; see `experiments.tiny_methods`."""

import os
import time
from collections.abc import Sequence

from etils import epath

from experiments._tiny_methods.arms import ARMS, BEST, ORACLE, SCORES
from experiments._tiny_methods.scores import score_file
from experiments._tiny_methods.tables import choice_table, confirmation_tables, guidance_table, runs_table
from experiments._tiny_study.confirmation import Confirmation
from experiments._tiny_study.exam import Exam
from experiments._tiny_study.sentences import tiny_study_texts
from experiments._tiny_study.steps import Study, must_succeed
from experiments._tiny_study.table import BASE, SFT, category_table, overall_table
from experiments._tiny_study.tasks import Examination, SecondExamination, Training
from experiments._tiny_study.understanding import understanding_table
from experiments._tiny_study.whole_study import show
from experiments._tiny_study.work import Work
from srum_jax.worlds.shapes.prompts import prompt_text
from tools.make_rewards.__main__ import main as make_rewards


def run_methods(work: Work, base: epath.Path, names: Sequence[str], *, confirm: bool) -> None:
    """All steps; prints the tables and writes them to `OUT/table.md`, with plot and pictures beside them.

    Args:
      work: of the study.
      base: checkpoint that all arms start from, and that judges.
      names: of arms. One of a second round comes after the arm that it goes on from.
      confirm: whether they are examined a second time.
    """
    study, started = work.study, time.monotonic()
    seeds = range(study.settings.seeds)
    rounds = {1: study.rewards(1, base)}
    first, second = ([name for name in names if (ARMS[name].after is not None) == later] for later in (False, True))
    work.do([_training(study, name, seed, rounds[1], base, base) for name in first for seed in seeds])
    for name in second:
        before = [study.checkpoint(ARMS[name].after, seed) for seed in seeds]
        number = 2 + second.index(name)
        rounds[number] = study.rewards(number, before[0])
        work.do([_training(study, name, seed, rounds[number], before[seed], base) for seed in seeds])
    models = {BASE: [base for _ in seeds]}
    models |= {name: [study.checkpoint(name, seed) for seed in seeds] for name in names}
    work.do([Examination(name, tuple(map(os.fspath, checkpoints))) for name, checkpoints in models.items()])
    exam = Exam(study)
    tables = _tables(exam, list(models))
    if confirm:
        work.do([SecondExamination(name, seed, os.fspath(checkpoint))
                 for name, checkpoints in models.items() for seed, checkpoint in enumerate(checkpoints)])
        tables = confirmation_tables(Confirmation(study), list(models)) | tables
    for number, folder in rounds.items():
        kinds = [kind for kind in SCORES if (folder / "scores" / f"{kind}.jsonl").exists() and kind != ORACLE]
        files = {kind: score_file(folder, kind, base) for kind in kinds}
        truth = score_file(folder, ORACLE, base)
        tables[f"Candidates of round {number}"] = choice_table(folder, files, truth)
    show(exam, tables, models, (name for name in (SFT, BEST) if name in names))
    print(f"{(time.monotonic() - started) / 60:.1f} minutes now")


def _training(
    study: Study, name: str, seed: int, rewards: epath.Path, start: epath.PathLike, judge: epath.PathLike
) -> Training:
    """How one model of an arm is trained; chooses its records first."""
    arm, records = ARMS[name], rewards / "export"
    if arm.select:
        chosen = study.out / "records" / name
        given = () if arm.scores is None else ("--scores", os.fspath(score_file(rewards, arm.scores, judge)))
        if seed == 0:
            must_succeed(make_rewards, ["select", "--records", os.fspath(records), "--out", os.fspath(chosen),
                                        *arm.select, *given])
        records = chosen
    return Training(arm.variant, seed, os.fspath(records), os.fspath(start), name)


def _tables(exam: Exam, names: Sequence[str]) -> dict[str, str]:
    """Of the exam, by title."""
    marks = {way: {name: exam.marks(name, way) for name in names} for way in exam.ways}
    tables = {}
    for way in exam.ways:
        guidance = {name: exam.guidance(name, way) for name in names}
        tables[f"Held-out prompts, {exam.title(way)}"] = overall_table(marks[way], guidance)
        tables[f"The same run by run, {exam.title(way)}"] = runs_table(marks[way])
    known = tiny_study_texts()
    new = [prompt_text(prompt) not in known for prompt in exam.prompts]
    for way in exam.ways:
        own = {name: [run.only(new) for run in runs] for name, runs in marks[way].items()}
        title = f"Only the {sum(new)} prompts whose sentence the tiny study had not"
        tables[f"{title}, {exam.title(way)}"] = runs_table(own)
    for way in exam.ways:
        tables[f"Share that fits by category, {exam.title(way)}, %"] = category_table(marks[way], exam.prompts)
    if len(exam.study.settings.guidance) > 1:
        tables["Choice of guidance"] = guidance_table({name: exam.validation_scores(name) for name in names})
    tables["Understanding, on drawn pictures"] = understanding_table({name: exam.understanding(name) for name in names})
    return tables
