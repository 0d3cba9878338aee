"""Figure 3's table, from replayed evaluations."""

import json

import pytest

from experiments.ablation_table import main, table
from srum_jax.errors import BadInput
from tests.evaluation.replayed import Evaluation
from tests.evaluation.test_t2i_compbench import ENTRIES, replies


def evaluated(folder, change):
    folder.mkdir()
    evaluation = Evaluation(folder, "t2i_compbench", val_comp__json=ENTRIES)
    lines = [line | {"text": json.dumps({"score": 50 + change})} for line in replies()]
    assert evaluation.run(lines) == 0
    return evaluation.out


def test_each_ablation_is_compared_with_the_full_method(tmp_path, capsys):
    folders = {name: evaluated(tmp_path / name, change) for name, change in (("full", 0), ("base", -4), ("mine", 2))}
    capsys.readouterr()
    assert main([f"{name}={path}" for name, path in folders.items()]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| method | overall | against full | 95 % interval | published |", "|---|---|---|---|---|",
        "| full | 50.00 |  |  |  |", "| base | 46.00 | -4.00 | [-4.00, -4.00] | -4.37 |",
        "| mine | 52.00 | +2.00 | [+2.00, +2.00] |  |"]


def test_what_cannot_be_compared_is_named(tmp_path):
    path = evaluated(tmp_path / "full", 0)
    with pytest.raises(BadInput, match="expected full=DIR"):
        table([f"base={path}"])
    with pytest.raises(BadInput, match=r"evaluation\.json"):
        table([f"full={path}", f"base={tmp_path}"])
    with pytest.raises(BadInput, match="each name once"):
        table([f"full={path}", f"full={path}"])
