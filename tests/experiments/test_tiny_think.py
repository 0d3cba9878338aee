"""The study of planning before drawing: its tables, its drawing, and the command itself."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments._tiny_bases.bases import BASES
from experiments._tiny_bases.measure import draw
from experiments._tiny_study.marks import Marks
from experiments._tiny_study.planned_drawing import PLAN, draw_with_plans, true_plans, write_plans
from experiments._tiny_think import exam
from experiments._tiny_think.plans import THINK_TEMPLATES
from experiments.tiny_think import main
from srum_jax.inference.templates import Templates
from srum_jax.pipeline import load
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.prompt_set import balanced_prompts
from tests import commands

PROMPTS = balanced_prompts(2, 5, held_out=True)


def test_true_plans_are_right_and_a_planted_error_is_seen():
    plans = true_plans(PROMPTS, 0)
    assert all(exam.verdict(prompt, plan) is True for prompt, plan in zip(PROMPTS, plans, strict=True))
    wrong = [f"solid pink ring above, {plans[0]}", "a red circle", *plans[2:]]
    found = [exam.verdict(prompt, plan) for prompt, plan in zip(PROMPTS, wrong, strict=True)]
    assert found == [False, None, *[True] * (len(PROMPTS) - 2)]
    table = exam.plans_table({"most likely words": wrong}, PROMPTS).splitlines()
    assert table[2].startswith("| most likely words | 93.8 | 87.5 [") and "| 0 | 100 |" in table[2]


def test_tables_compare_every_way_with_the_control():
    right = np.ones(len(PROMPTS))
    found = {way: {1.0: Marks(right, right, right), 2.0: Marks(right, right, right)} for way in exam.WAYS}
    found[exam.CONTROL, exam.NO_PLAN][1.0] = Marks(0 * right, right, right)
    rows = exam.pictures_table(found).splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [[f"| {model}", plan] for model, plan in exam.WAYS]
    assert rows[3].count("*") == 1 and "+100.0 [+100.0, +100.0]*" in rows[3] and "+0.0 [+0.0, +0.0] |" in rows[3]
    assert "0.0 [0.0, 0.0] |  |" in rows[1]
    sentence = exam.picture_given_plan(true_plans(PROMPTS, 0), PROMPTS, Marks(right, right, right))
    assert "100.0 % of 16 with a right plan, none of 0" in sentence


@pytest.mark.parametrize(("arguments", "message"), [
    (["--steps", "0"], "expected a whole number from 1, found '0'"),
    (["--wrong-captions", "2"], "expected a number from 0 to 1"),
    (["--guidance", "1,1"], "expected different positive numbers"),
    (["--learning-rate", "-1"], "expected a positive number"),
])
def test_arguments_that_cannot_be_used_are_errors(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path), *arguments])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_folder_holds_studies_of_one_kind(tmp_path, capsys):
    (tmp_path / "study.json").write_text('{"steps": 7}')
    assert main(["--out", str(tmp_path)]) == 2
    assert "steps: the folder 7, this command" in capsys.readouterr().err


@pytest.mark.slow
def test_a_given_plan_draws_the_picture_that_the_same_plan_draws_in_think_mode():
    pipeline = load(trained_base(), dtype="float32", attention="dense", devices=jax.local_devices()[:1],
                             templates=Templates.read(THINK_TEMPLATES))
    few, how = PROMPTS[:3], dataclasses.replace(BASES["bagel"].sampler(2.0), num_timesteps=5)
    pictures = draw(pipeline, few, how, 3, PLAN)
    again = draw_with_plans(pipeline, few, write_plans(pipeline, few, PLAN, 3), how, 3)
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(pictures, again, strict=True)) <= 1
    others = draw_with_plans(pipeline, few, true_plans(few, 0), how, 3)
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(pictures, others, strict=True)) > 20


@pytest.mark.slow
def test_the_command_trains_and_draws_in_every_way_and_goes_on_where_it_was(tmp_path):
    out = tmp_path / "study"
    command = ["experiments.tiny_think", "--out", out, "--steps", "2", "--planned", "2",
               "--pictures", "2", "--questions", "2", "--prompts-per-category", "1", "--understanding-pictures", "8",
               "--guidance", "2"]
    code, printed, err = commands.run_afresh(*command)
    assert code == 0, err
    table = (out / "table.md").read_text()
    assert table in printed
    assert all(f"| {model} | {plan} |" in table for model, plan in exam.WAYS)
    assert sorted(path.name for path in (out / "marks").iterdir() if path.name != "plans.json") == sorted(
        f"{model}-{plan.replace(' ', '-')}-2.json" for model, plan in exam.WAYS)
    # Two steps of a rate that is still rising change nearly nothing.
    base, control = (json.loads((out / "marks" / f"{name}-none-2.json").read_text()) for name in ("base", "control"))
    assert np.mean(control["well_formed"]) >= 0.5 and np.abs(np.subtract(base["fit"], control["fit"])).sum() <= 4

    code, _, err = commands.run(*command)
    assert code == 0 and (out / "table.md").read_text() == table, err
    code, _, err = commands.run(*command, "--steps", "3")
    assert code == 2 and "steps: the folder 2, this command 3" in err
