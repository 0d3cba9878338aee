"""All stages by one command: on one machine, and on a Ray cluster."""

import json
import signal
import threading
import time

import psutil
import pytest
from etils import epath

from experiments import _tiny_rewards
from srum_jax.errors import BadInput
from tests import commands
from tests.generation.fakes import contents
from tests.tools.fakes import PROMPTS, exported, generated, scores_for
from tools.make_rewards import run
from tools.make_rewards.__main__ import main
from tools.make_rewards.stage_recipe import StageRecipe, with_settings


def recipe_file(folder, body):
    """An experiment of a user's own."""
    path = folder / "mine.py"
    path.write_text(f"from experiments.tiny import experiment\n\n\ndef rewards(folder):\n    return {body!r}\n")
    return str(path)


def given_stages(folder, scores):
    """Stages that need no model, over pictures that are already there."""
    return recipe_file(folder, {"segment": {"provider": "components"}, "judge": {"judge": scores},
                                "export": {"num_record_shards": 2}})


def test_arguments_become_words_of_the_command_line():
    recipe = StageRecipe({"generate": {"num_candidates": 2, "think": True, "output.num_shards": 2,
                                       "sampler.guidance.interval": (0.4, 1.0)}})
    assert recipe.command_line("generate", "o") == ["--out", "o", "--num-candidates", "2", "--think",
                                                    "--set", "output.num_shards=2", "--set",
                                                    "sampler.guidance.interval=0.4,1.0"]
    changed = with_settings(recipe, ["generate.think=false", "generate.num-candidates=none", "output.num_shards=none",
                                     "judge.preset=official", "judge.max_regions=5"])
    assert changed.command_line("generate", "o") == ["--out", "o", "--no-think", "--set",
                                                       "sampler.guidance.interval=0.4,1.0"]
    assert changed.command_line("judge", "o") == ["--out", "o", "--preset", "official", "--set",
                                                    "judge.max_regions=5"]
    assert recipe.arguments["generate"]["think"] is True  # the first is as it was


@pytest.mark.parametrize("setting", ["think=true", "generate=1", "train.steps=4", "generate.=1", "generate.think"])
def test_settings_of_another_form_are_errors(setting):
    with pytest.raises(BadInput, match=r"expected STAGE.ARGUMENT=VALUE"):
        with_settings(StageRecipe({}), [setting])


@pytest.mark.parametrize(("arguments", "message"), [
    (["--experiment", "bagel_sft"], "bagel_sft: expected a function rewards"),
    (["--experiment", "tinny"], "the nearest is tiny"),
    (["--experiment", "bagel_cot", "--prompts", "p.json"], "--checkpoint"),
    (["--experiment", "tiny", "--set", "segment.colour=red"], "expected arguments that `segment --help` lists"),
    (["--experiment", "tiny", "--set", "judge.max_regions=many"], "judge.max_regions: expected int, found 'many'"),
    (["--experiment", "tiny", "--set", "sam.point=8"], "no such setting; the nearest is sam.points"),
    (["--experiment", "tiny", "--set", "judge.preset=mine"], "argument --preset: invalid choice"),
])
def test_what_cannot_work_is_an_error_before_any_stage(tmp_path, capsys, arguments, message):
    assert main(["run", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_stage_that_fails_ends_the_run(tmp_path, capfd):
    recipe = recipe_file(tmp_path, {"generate": {"checkpoint": str(tmp_path), "prompt": "a ring"},
                                    "segment": {"provider": "components"}, "judge": {"judge": "jsonl:x"}})
    assert main(["run", "--experiment", recipe, "--out", str(tmp_path / "out")]) == 2
    said = capfd.readouterr()
    assert "generate ended with exit code 2; the later stages were not started" in said.err
    assert "make_rewards segment" not in said.out


def test_prompts_of_the_tiny_recipe_are_written_once_and_are_those_of_the_world(tmp_path):
    stages = _tiny_rewards.rewards(epath.Path(tmp_path))
    rows = json.loads((tmp_path / "inputs" / "prompts.json").read_text())
    assert stages == _tiny_rewards.rewards(epath.Path(tmp_path))
    assert len({row["Question"] for row in rows}) == len(rows) and len({row["Category"] for row in rows}) == 8
    words = [json.loads(line) for line in (tmp_path / "inputs" / "keywords.jsonl").read_text().splitlines()]
    assert [line["id"] for line in words] == [row["Question_id"] for row in rows]
    assert all(word in row["Question"] for line, row in zip(words, rows, strict=True) for word in line["keywords"])
    (tmp_path / "inputs" / "prompts.json").write_text("[]")
    with pytest.raises(ValueError, match="found others; choose another folder"):
        _tiny_rewards.rewards(epath.Path(tmp_path))


@pytest.mark.slow
def test_one_command_leads_from_prompts_to_records_that_training_reads(tmp_path):
    out = tmp_path / "run"
    command = ["tools.make_rewards", "run", "--experiment", "tiny", "--out", out,
               "--set", "generate.limit=6", "--set", "sampler.num_timesteps=4", "--set",
               "generate.batch_size=4"]
    code, printed, err = commands.run_afresh(*command)
    assert code == 0, err
    assert [line.split()[4] for line in printed.splitlines() if line.startswith("$ ")] == [*run.STAGES]
    records = exported(out)
    summary = json.loads((out / "summary-export.json").read_text())
    assert len(records) == summary["exported"] and len(records) + sum(summary["rejected"].values()) == 12
    assert main(["verify", str(out)]) == 0
    before = contents(out)
    assert commands.run(*command).code == 0
    assert contents(out) == before
    code, _, err = commands.run(
        "srum_jax.train", "--experiment=tiny_srum", "--workdir", tmp_path / "train", "--set",
        f"data.records={out / 'export'}", "--set", "training.steps=2", "--set", "data.rows_per_batch=8")
    assert code == 0, err


@pytest.mark.slow
def test_a_ray_cluster_that_loses_a_worker_makes_the_folder_of_one_process(tmp_path, capfd, monkeypatch):
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    prompts = PROMPTS * 1
    alone, spread = generated(tmp_path / "alone", prompts), generated(tmp_path / "spread", prompts)
    scores = scores_for(tmp_path / "scores.jsonl", prompts)
    assert main(["segment", "--out", str(alone), "--provider", "components"]) == 0
    assert main(["judge", "--out", str(alone), "--judge", scores]) == 0
    from tools.make_rewards.runners.cluster import Cluster

    killed = []

    def kill_one():
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.cmdline()[:1] == ["ray::run_share"]:
                        process.send_signal(signal.SIGKILL)
                        killed.append(process.pid)
                        return
                except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                    continue
            time.sleep(0.01)

    with Cluster(run.run_share, 2) as cluster:
        threading.Thread(target=kill_one, daemon=True).start()
        assert cluster.run_stage("segment", ["--out", str(spread), "--provider", "components"]) == 0
        assert killed
        assert cluster.run_stage("judge", ["--out", str(spread), "--judge", scores]) == 0
        assert cluster.run_stage("judge", ["--out", str(spread), "--judge", scores, "--preset", "official"]) == 2
    assert contents(spread) == contents(alone)
