"""Figure 6's table, from replayed evaluations."""

import pytest

from experiments.wise_table import main, table
from srum_jax.errors import BadInput
from tests.evaluation.replayed import Evaluation
from tests.evaluation.test_wise import ENTRIES, replies
from tests.experiments.test_ablation_table import evaluated as evaluated_on_compbench


def evaluated(folder, **changes):
    folder.mkdir()
    evaluation = Evaluation(folder, "wise", wise__json=ENTRIES)
    assert evaluation.run(replies(**changes), "--protocol", "srum_jax-1") == 0
    return evaluation.out


def test_what_was_trained_on_one_group_is_compared_with_the_base_on_the_others(tmp_path, capsys):
    best = "Consistency: 2\nRealism: 2\nAesthetic Quality: 2"
    folders = {"base": evaluated(tmp_path / "base"), "culture": evaluated(tmp_path / "culture", _700=best),
               "natural_science": evaluated(tmp_path / "science", _400=best)}
    capsys.readouterr()
    assert main([f"{name}={path}" for name, path in folders.items()]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    # Time and space of the base: 0, 1, 0.5 and 0.8; culture: 1 and 0.8; science: 1, 0.3, 0.7 and 0.1.
    assert [line[:5] for line in lines[2:]] == [
        ["| culture", "spatio_temporal", "0.5750", "0.6250", "+0.0500"],
        ["| culture", "natural_science", "0.5250", "0.5250", "+0.0000"],
        ["| natural_science", "culture", "0.9000", "1.0000", "+0.1000"],
        ["| natural_science", "spatio_temporal", "0.5750", "0.5750", "+0.0000"]]


def test_what_is_no_table_of_groups_is_named(tmp_path):
    path, other = evaluated(tmp_path / "wise"), evaluated_on_compbench(tmp_path / "compbench", 0)
    for results, message in (([f"culture={path}"], "expected base=DIR"), ([f"base={path}"], "some of culture"),
                             ([f"base={path}", f"mine={path}"], "some of culture"),
                             ([f"base={path}", f"culture={other}"], "expected an evaluation on wise, found one on t2i"),
                             ([f"base={path}", f"base={path}"], "each name once")):
        with pytest.raises(BadInput, match=message):
            table(results)
