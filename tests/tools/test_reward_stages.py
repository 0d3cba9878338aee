"""segment, judge and export through the command line, over a folder that a fake model has generated."""

import json
import shutil
import time

import numpy as np
import pytest

from srum_jax.judges.dialogue import run_dialogues
from srum_jax.judges.own_model import ModelJudge
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.rewards.judgement.judge_record import Subject, judge_record
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.settings import JudgeSettings
from srum_jax.worlds.shapes.base import trained_base
from tests import commands
from tests.generation.fakes import contents
from tests.tools.fakes import PROMPTS, all_stages, exported, generated, scores_for
from tools.make_rewards.__main__ import main


def test_the_stages_lead_from_pictures_to_verified_records(whole, capsys):
    assert main(["verify", str(whole)]) == 0
    records = exported(whole)
    assert sorted(records) == [f"set-{i}-c00" for i in range(5)]
    first = records["set-0-c00"]
    assert first.prompt == "a red circle left of a square" and first.category == "color"
    assert first.keywords == ("circle", "square") and first.has_directive
    assert first.provider == "components" and first.num_found == 1
    assert [tuple(region.box) for region in first.regions] == [(6, 4, 20, 14)] and first.regions[0].score == 0.5
    assert first.global_score == np.float32(0.8) and not records["set-1-c00"].has_directive
    assert records["set-1-c00"].global_score == np.float32(0.4)  # no directive: neutral band
    assert first.provenance["judge"]["kind"] == "jsonl"
    assert main(["export", "--out", str(whole)]) == 0
    assert "exported before; all checksums and counts hold" in capsys.readouterr().out


def test_what_is_lost_of_a_stage_is_made_again_with_the_same_bytes(whole, tmp_path):
    before = contents(whole)
    for stage in ("segment", "judge"):
        chunk = next(iter(sorted(whole.glob(f"{stage}/chunks/*/*.jsonl"))))
        chunk.unlink()
        (chunk.parent / f".{chunk.name}.partial").write_bytes(b'{"record_id": ')
    assert all_stages(whole, scores_for(tmp_path / "scores.jsonl")) == 0
    assert contents(whole) == before


def test_two_processes_make_the_folder_of_one(whole, tmp_path):
    other = generated(tmp_path / "other")
    scores = scores_for(tmp_path / "scores.jsonl")
    for command in (["segment", "--provider", "components"], ["judge", "--judge", scores]):
        for index in ("1", "0"):
            assert main([*command, "--out", str(other), "--process-index", index, "--num-processes", "2"]) == 0
    assert main(["export", "--out", str(other), "--num-record-shards", "2"]) == 0
    assert contents(other) == contents(whole)


def test_other_settings_need_another_folder(whole, tmp_path, capsys):
    assert main(["segment", "--out", str(whole), "--provider", "components", "--max-candidates", "3"]) == 2
    assert "max_candidates: the folder 20, this command 3" in capsys.readouterr().err
    scores = scores_for(tmp_path / "scores.jsonl")
    assert main(["judge", "--out", str(whole), "--judge", scores, "--preset", "official"]) == 2
    assert 'settings.verify: the folder "separate", this command "off"' in capsys.readouterr().err


def test_a_stage_needs_the_one_before(tmp_path, capsys):
    assert main(["segment", "--out", str(tmp_path), "--provider", "components"]) == 2
    assert "expected a folder that `generate` has made" in capsys.readouterr().err
    out = generated(tmp_path / "run")
    assert main(["judge", "--out", str(out), "--judge", scores_for(tmp_path / "s.jsonl")]) == 2
    assert "run `segment` first" in capsys.readouterr().err
    (out / "generate" / "done" / "00001-of-00002.json").unlink()
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 2
    assert "expected all shards of `generate` to be complete" in capsys.readouterr().err


def test_pictures_that_cannot_be_used_are_counted_with_the_reason(tmp_path):
    out = generated(tmp_path / "run")
    gone, empty = (out / "generate" / "images" / f"{i % 2:05d}" / f"set-{i}-c00.png" for i in (1, 2))
    gone.unlink()
    empty.write_bytes(b"")
    assert all_stages(out, scores_for(tmp_path / "s.jsonl")) == 3  # two of five are more than 20 %
    reasons = {line["record_id"]: line["reason"] for line in map(
        json.loads, (out / "rejects" / "export-00000-of-00001.jsonl").read_text().splitlines())}
    assert reasons == {"set-1-c00": "missing_image", "set-2-c00": "unreadable_image"}
    assert json.loads((out / "summary-export.json").read_text())["exported"] == 3
    assert main(["verify", str(out)]) == 0


def test_a_picture_that_was_changed_is_an_error_that_names_it(tmp_path, capsys):
    out = generated(tmp_path / "run")
    path = out / "generate" / "images" / "00000" / "set-0-c00.png"
    path.write_bytes(path.read_bytes() + b"x")
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 1
    assert "set-0-c00.png: expected the file with SHA-256" in capsys.readouterr().err


def test_a_damaged_chunk_is_an_error_that_names_it(whole, capsys, tmp_path):
    chunk = next(iter(sorted(whole.glob("segment/chunks/*/*.jsonl"))))
    chunk.write_bytes(chunk.read_bytes()[:-20])
    for path in whole.glob("judge/chunks/*/*"):
        path.unlink()
    assert main(["judge", "--out", str(whole), "--judge", scores_for(tmp_path / "scores.jsonl")]) == 1
    assert f"{chunk.name}:" in capsys.readouterr().err


@pytest.mark.parametrize(("changes", "reason"), [
    ({"regions": []}, "no_region"),
    ({"global": {"score": 0.0}, "regions": []}, "no_region"),
])
def test_the_rules_of_export_say_what_becomes_no_record(tmp_path, changes, reason):
    out = generated(tmp_path / "run")
    assert all_stages(out, scores_for(tmp_path / "s.jsonl", **changes)) == 3
    assert json.loads((out / "summary-export.json").read_text())["rejected"] == {reason: 5}


def test_the_official_preset_drops_a_global_zero_and_keeps_pictures_without_regions(tmp_path):
    out = generated(tmp_path / "run")
    scores = scores_for(tmp_path / "s.jsonl", PROMPTS[:3], **{"regions": []})
    (tmp_path / "s.jsonl").open("a").write(json.dumps({"record_id": "set-3-c00", "global": {"score": 0.0}}) + "\n")
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    assert main(["judge", "--out", str(out), "--judge", scores, "--preset", "official"]) == 0
    assert main(["export", "--out", str(out), "--preset", "official", "--max-reject-rate", "0.5",
                 "--official-jsonl", str(tmp_path / "official.jsonl")]) == 0
    assert json.loads((out / "summary-export.json").read_text())["rejected"] == {"global_zero": 1}
    lines = [json.loads(line) for line in (tmp_path / "official.jsonl").read_text().splitlines()]
    scored = [line["vlm_rewards"][0] for line in lines if line["vlm_rewards"]]
    assert scored[0] == {"object": "global_layout_reward", "bbox": [0, 0, 48, 40], "score": pytest.approx(0.8),
                         "reason": "fine"}


@pytest.mark.parametrize(("line", "message"), [
    ("{", "s.jsonl:1: not valid JSON"),
    ('{"regions": []}', "field 'record_id': expected the id"),
    ('{"record_id": "a", "regions": [{"box": [0, 0, 1], "score": 0}]}', r"field 'regions[0].box': expected four"),
    ('{"record_id": "a", "regions": [{"box": [0, 0, 1, 1], "score": 2}]}', "expected a number in [-1, 1], found 2"),
    ('{"record_id": "a", "global": {"score": null}}', "field 'global.score': expected a number"),
    ('{"record_id": "a"}\n{"record_id": "a"}', "s.jsonl:2: field 'record_id': 'a' occurs twice"),
])
def test_given_scores_that_cannot_be_used_are_errors_with_their_line(tmp_path, capsys, line, message):
    out = generated(tmp_path / "run", PROMPTS[:1])
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    (tmp_path / "s.jsonl").write_text(line)
    assert main(["judge", "--out", str(out), "--judge", f"jsonl:{tmp_path / 's.jsonl'}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["judge", "--judge", "gpt"], "--judge gpt: expected model, likelihood, transformers:DIR"),
    (["judge"], "--checkpoint: expected the model that is asked"),
    (["segment", "--provider", "grounding"], "--checkpoint: expected the model that is asked"),
    (["segment", "--provider", "grounding", "--checkpoint", str(trained_base())], "trained to name boxes, found bagel"),
    (["judge", "--judge", "transformers:/nowhere"],
     "--judge transformers:/nowhere: expected model, likelihood, transformers:DIR"),
    (["judge", "--judge-templates", "/nowhere.toml"], "/nowhere.toml: no such file"),
    (["judge", "--set", "judge.max_regions=0"], "judge.max_regions: expected an integer of at least 1"),
    (["judge", "--set", "judge.max_region=3"], "no such setting; the nearest is judge.max_regions"),
    (["judge", "--set", "judge.severity=strong"], "judge.severity: expected on or smooth or off, found 'strong'"),
    (["segment"], "--sam-model: expected the directory of a SAM checkpoint"),
    (["segment", "--set", "sam.pred_iou_thresh=2", "--sam-model", "x"], "sam.pred_iou_thresh: expected a number"),
    (["segment", "--set", "sam.nms_thresh=0.5", "--provider", "components"], "sam.nms_thresh: no such setting"),
    (["segment", "--process-index", "2", "--num-processes", "2", "--provider", "components"], "found 2 of 2"),
])
def test_arguments_that_cannot_be_used_are_errors(tmp_path, capsys, arguments, message):
    out = generated(tmp_path / "run", PROMPTS[:1])
    assert main([*arguments, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err


class ScriptedPipeline:
    """Answers by the question, and remembers its batches."""

    def __init__(self):
        self.batches = []

    def answer(self, questions, *, sampler, think, allow_non_finite):
        self.batches.append((len(questions), sampler.max_tokens, sampler.temperature, think))
        from srum_jax.inference.requests import Answer

        return [Answer("", None, False, 9, f"SCORE: {question.prompt.split()[0]}\nREASON: x") for question in questions]


def test_the_model_answers_calls_of_equal_settings_in_batches_and_keeps_their_order():
    pipeline = ScriptedPipeline()
    calls = [(None, Call("global", 1, f"0.{i} ...", 10 if i % 2 else 20, True, None, 0, "")) for i in range(7)]
    replies = ModelJudge(pipeline, 2).answer(calls)
    assert [reply.text.split()[1] for reply in replies] == [f"0.{i}" for i in range(7)]
    assert sorted(pipeline.batches) == [(2, 11, None, True)] * 2 + [(2, 21, None, True)] * 2
    pipeline.batches.clear()
    assert len(ModelJudge(pipeline, 16).answer(calls[:5])) == 5  # three and two calls
    assert sorted(rows for rows, *_ in pipeline.batches) == [2, 4]


def test_dialogues_side_by_side_are_those_one_by_one():
    subjects = [Subject(f"r{i}", f"0.{i} prompt", 10, 10, ["x"], True, []) for i in range(3)]

    class Echo:
        def answer(self, calls):
            return [Reply(f"SCORE: 0.{len(call.text) % 7}", 1, True) for _, call in calls]

    templates = JudgeTemplates.read()

    def judgings(chosen):
        return [(None, judge_record(subject, JudgeSettings(), templates)) for subject in chosen]

    together = run_dialogues(judgings(subjects), Echo())
    assert together == [run_dialogues(judgings([subject]), Echo())[0] for subject in subjects]


def test_files_that_systems_and_editors_leave_in_the_folder_change_nothing(whole, tmp_path):
    out = generated(tmp_path / "littered")
    scores = scores_for(tmp_path / "scores.jsonl")

    def litter():
        for chunk in list(out.rglob("*.jsonl")):
            for name in (".DS_Store", "Thumbs.db", f"._{chunk.name}", f"{chunk.name}~", f"{chunk.stem} copy.jsonl"):
                (chunk.parent / name).write_bytes(b"\0")
        for stage in out.glob("*/chunks"):
            (stage / ".DS_Store").write_bytes(b"\0")
            (stage / "desktop.ini").write_bytes(b"\0")

    litter()
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    litter()
    assert main(["judge", "--out", str(out), "--judge", scores]) == 0
    litter()
    assert main(["export", "--out", str(out), "--num-record-shards", "2", "--verify"]) == 0
    assert main(["report", str(out), "--out", str(tmp_path / "report")]) == 0
    found = contents(out)
    assert {name: found[name] for name in contents(whole)} == contents(whole)


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_given_scores_may_come_from_any_system(whole, tmp_path, end):
    out = generated(tmp_path / "run")
    scores_for(tmp_path / "scores.jsonl")
    text = (tmp_path / "scores.jsonl").read_text()
    (tmp_path / "theirs.jsonl").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", end).encode())
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    assert main(["judge", "--out", str(out), "--judge", f"jsonl:{tmp_path / 'theirs.jsonl'}"]) == 0
    assert (out / "summary-judge.json").read_bytes() == (whole / "summary-judge.json").read_bytes()


@pytest.mark.slow
def test_stages_killed_at_random_moments_end_with_the_bytes_of_an_uninterrupted_run(whole, tmp_path):
    out = generated(tmp_path / "killed")
    scores = scores_for(tmp_path / "scores.jsonl")
    rng = np.random.default_rng(0)
    for command in (["segment", "--provider", "components"], ["judge", "--judge", scores],
                    ["export", "--num-record-shards", "2"]):
        undisturbed = shutil.copytree(out, tmp_path / command[0])
        begun = time.monotonic()
        assert commands.run("tools.make_rewards", *command, "--out", undisturbed).code == 0
        seconds = time.monotonic() - begun
        for _ in range(7):
            process = commands.start("tools.make_rewards", *command, "--out", out)
            time.sleep(float(rng.uniform(0.0, seconds)))
            process.kill()
        assert main([*command, "--out", str(out)]) == 0
    found = {name: data for name, data in contents(out).items() if "partial" not in name}
    assert found == contents(whole)
