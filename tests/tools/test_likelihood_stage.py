"""Offline SUDER through the command line: the likelihood of a prompt becomes the global score of ordinary records."""

import json
import os
import shutil

import numpy as np
import pytest

from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.groups import advantages
from srum_jax.rewards.reward_map import RewardMapConfig
from srum_jax.rewards.token_grid import Grid
from srum_jax.worlds.shapes.base import trained_base
from tests.tools.fakes import exported, generated
from tools.make_rewards.__main__ import main

PROMPTS = ("a red circle left of a blue square", "two green triangles")
REQUEST = "what is in the picture"


def command(stage, out, *more):
    return main([stage, "--out", str(out), *map(str, more)])


def model():
    return ["--checkpoint", os.fspath(trained_base()), "--dtype", "float32", "--attention", "dense"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Two prompts, three candidates each, scored."""
    folder = tmp_path_factory.mktemp("likelihood")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    out = folder / "run"
    assert command("generate", out, "--prompts", folder / "prompts.txt", "--num-candidates", 3, "--batch-size", 6,
                   "--set", "sampler.num_timesteps=3", "--set", "sampler.guidance.text_scale=1", *model()) == 0
    assert command("likelihood", out, "--request", REQUEST, *model()) == 0
    return out


def log_probs(out):
    lines = [json.loads(line) for path in sorted(out.glob("likelihood/chunks/*/*.jsonl"))
             for line in path.read_text().splitlines()]
    return {line["record_id"]: line["log_prob"] for line in lines}


@pytest.mark.slow
def test_the_likelihood_of_the_prompt_becomes_the_weight_of_the_picture(scored):
    assert command("judge", scored, "--judge", "likelihood") == 0
    assert command("export", scored, "--no-region", "keep", "--verify") == 0
    found, records = log_probs(scored), exported(scored)
    assert len(records) == 6 and all(value < 0 for value in found.values())
    for index in range(2):
        group = sorted(name for name in records if records[name].index == index)
        rewards = np.array([[found[name] for name in group]])
        expected = np.clip(advantages(rewards, np.ones_like(rewards, bool))[0] / 2, -1, 1)
        np.testing.assert_allclose([records[name].global_score for name in group], expected, rtol=1e-6)
        assert records[group[0]].global_reason.startswith("log likelihood -")
    record = records[group[0]]
    objective = RewardWeighted(reward_map=RewardMapConfig(use_local=False))
    columns = objective.columns_of(record, Grid(6, 6, Box(0, 0, 48, 48), 48, 48))
    assert np.all(columns["reward_map"] == 1)
    np.testing.assert_allclose(columns["alpha"], (record.global_score + 1) / 2, rtol=1e-6)
    assert record.provenance["judge"]["kind"] == "likelihood"


@pytest.mark.slow
def test_the_likelihood_stands_in_one_record_with_the_regions_of_a_judge(scored, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(scored, both, ignore=shutil.ignore_patterns("*judge*", "*export*"))
    found = log_probs(both)
    judge = tmp_path / "regions.jsonl"
    judge.write_text("".join(json.dumps({"record_id": name, "global": {"score": 0.25}, "regions": [
        {"box": [0, 0, 24, 24], "score": -0.5, "object": "shape"}]}) + "\n" for name in found))
    assert command("segment", both, "--provider", "components") == 0
    assert command("judge", both, "--judge", f"jsonl:{judge}", "--global", "likelihood") == 0
    assert command("export", both, "--verify") == 0
    records = exported(both)
    for index in range(2):
        group = sorted(name for name in records if records[name].index == index)
        rewards = np.array([[found[name] for name in group]])
        expected = np.clip(advantages(rewards, np.ones_like(rewards, bool))[0] / 2, -1, 1)
        np.testing.assert_allclose([records[name].global_score for name in group], expected, rtol=1e-6)
    columns = RewardWeighted().columns_of(records[group[0]], Grid(6, 6, Box(0, 0, 48, 48), 48, 48))
    assert np.ptp(columns["reward_map"]) > 0  # SRUM's map, and SUDER's weight
    np.testing.assert_allclose(columns["alpha"], (records[group[0]].global_score + 1) / 2, rtol=1e-6)


@pytest.mark.parametrize("more", [("--judge", "likelihood"), ("--judge", "jsonl:x", "--mode", "sample")])
def test_a_global_score_by_likelihood_wants_a_judge_of_regions(tmp_path, capsys, more):
    assert command("judge", generated(tmp_path / "run"), "--global", "likelihood", *more) == 2
    assert "--global likelihood: expected a judge of regions beside it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_unit_that_was_lost_is_scored_again_with_the_same_bytes(scored):
    chunk = next(scored.glob("likelihood/chunks/*/*.jsonl"))
    before = chunk.read_bytes()
    chunk.unlink()
    assert command("likelihood", scored, "--request", REQUEST, *model()) == 0
    assert chunk.read_bytes() == before


@pytest.mark.slow
def test_another_request_needs_another_folder(scored, capsys):
    assert command("likelihood", scored, "--request", "describe it", *model()) == 2
    assert f'request: the folder "{REQUEST}", this command "describe it"' in capsys.readouterr().err


def test_a_group_of_one_is_refused(tmp_path, capsys):
    assert command("likelihood", generated(tmp_path / "run"), *model()) == 2
    assert "expected several candidates a prompt" in capsys.readouterr().err


def test_the_judge_needs_the_stage(tmp_path, capsys):
    assert command("judge", generated(tmp_path / "run"), "--judge", "likelihood") == 2
    assert "run `likelihood` first" in capsys.readouterr().err
