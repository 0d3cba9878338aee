"""The study of rounds: its variants, its marks of captions, its tables, and the command itself."""

import json

import numpy as np
import pytest

from experiments import suder_tiny, suder_tiny_bagel
from experiments._tiny_rounds import SHUFFLED
from experiments._tiny_suder.captions import WAYS, right_captions
from experiments._tiny_suder.whole_study import shares_table
from experiments.tiny_suder import main
from srum_jax.experiment import ExperimentError, load_recipe
from srum_jax.objectives.config import PolicyGradient
from srum_jax.rollouts.config import GENERATION, UNDERSTANDING
from srum_jax.worlds.shapes.base import trained_janus
from tests import commands


def arm(name):
    return load_recipe(f"suder_tiny:{name}").experiment


def test_every_variant_changes_what_its_name_says_and_nothing_else():
    assert suder_tiny.experiment() == arm("simpo") != arm(SHUFFLED)
    assert {name: arm(name).rollouts.directions for name in ("pictures", "captions")} == {
        "pictures": GENERATION, "captions": UNDERSTANDING}
    assert [name for name in suder_tiny.VARIANTS if arm(name).rollouts.shuffle_rewards] == [SHUFFLED]
    grpo = arm("grpo").objective
    assert type(grpo.generation) is type(grpo.understanding) is PolicyGradient
    assert len({arm(name).optimizer for name in suder_tiny.VARIANTS}) == 1


def test_a_variant_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ExperimentError, match=r"suder_tiny_bagel: expected one of weighted, .*found 'grpo'"):
        suder_tiny_bagel.experiment("grpo")


def test_the_control_is_told_apart_from_the_base():
    right = (np.arange(200) % 2 == 0).astype(float)
    table = shares_table({"base": np.stack([right, right]), "simpo": np.ones((2, 200)),
                          SHUFFLED: np.stack([right, np.ones(200)])}, "guidance", dict.fromkeys(
                              ("base", "simpo", SHUFFLED), "1"))
    head, _, base, simpo, control = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    assert head == ["model", "guidance", "share, %", "against base", "against shuffled", "run 0 against base",
                    "run 1 against base", "run 0 against shuffled", "run 1 against shuffled"]
    assert base[3] == base[5] == "" and base[4].startswith("-25.0 [")
    assert [cell[:5] for cell in simpo[2:]] == ["100.0", "+50.0", "+25.0", "+50.0", "+50.0", "+50.0", "+0.0 "]
    assert [cell.endswith("*") for cell in simpo[3:]] == [True, True, True, True, True, False]
    assert control[4] == control[7] == "" and control[5] == "+0.0 [+0.0, +0.0]"


def test_captions_of_the_base_are_marked_once(tmp_path):
    path = tmp_path / "marks" / "captions-0.json"
    found = right_captions(path, trained_janus(), 32)
    assert set(found) == set(WAYS) and all(set(marks) <= {0.0, 1.0} and len(marks) == 32 for marks in found.values())
    assert 0.5 < found["greedy"].mean() < 1  # 0.775 of 200 in its recipe
    again = right_captions(path, "no model is needed", 32)
    assert all(np.array_equal(again[way], found[way]) for way in WAYS)


def test_an_arm_that_a_base_has_not_is_refused_before_anything_is_written(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "s"), "--base", "bagel", "--arms", "grpo"]) == 2
    assert "--arms: expected names among weighted, pictures" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_the_command_goes_from_base_to_tables_and_takes_more_arms(tmp_path):
    out = tmp_path / "study"
    smallest = ("--out", out, "--seeds", "1", "--steps", "2", "--evaluation-prompts-per-category", "1",
                "--validation-prompts-per-category", "1", "--understanding-pictures", "8")
    for arms in ("simpo", "simpo,shuffled"):
        code, printed, err = commands.run("experiments.tiny_suder", *smallest, "--arms", arms)
        assert code == 0, err
        table = (out / "table.md").read_text()
        assert table in printed and all(f"| {name} |" in table for name in ("base", *arms.split(",")))
        assert "Captions that are right, sampled" in table
    recipes = {name: json.loads((out / "models" / f"{name}-0" / "recipe.json").read_text())
               for name in ("simpo", SHUFFLED)}
    assert {name: recipe["variant"]["rollouts"]["shuffle_rewards"] for name, recipe in recipes.items()} == {
        "simpo": False, SHUFFLED: True}
    weights = {name: (out / "models" / f"{name}-0" / "model.safetensors").read_bytes() for name in recipes}
    assert weights["simpo"] != weights[SHUFFLED]
