"""The benchmark of a round, small."""

import json

import pytest

from tests import commands
from tests.rollouts.command import settings


def benchmark(*arguments):
    return commands.run("benchmarks.online_round", *arguments)


@pytest.mark.slow
def test_the_phases_of_a_round_add_up_to_its_time(tmp_path):
    named = [f"--set={setting}" for setting in settings()]
    code, out, err = benchmark("--rounds", "1", *named, "--json", tmp_path / "round.json")
    assert code == 0, err
    report = json.loads((tmp_path / "round.json").read_text())
    assert sum(report["seconds_by_phase"].values()) == pytest.approx(report["seconds_a_round"])
    assert all(seconds > 0 for seconds in report["seconds_by_phase"].values())
    assert 0 < report["programs_seconds_a_round"] < report["seconds_a_round"]
    assert report["pictures_per_second"] > 0 < report["tokens_per_second"]
    assert "| understanding, rewards |" in out and "overhead over them" in out


def test_an_experiment_over_records_has_no_rounds():
    code, _, err = benchmark("--experiment", "tiny")
    assert code == 2 and "--experiment tiny: expected one with rollouts" in err
