"""Rows of the failure table (spec: reward stage, section 19) about judging, through the real `judge` command."""

import json

import pytest

from srum_jax.rewards.judgement.calls import Reply
from tests.generation.fakes import contents
from tests.tools.fakes import (
    GOOD,
    PROMPTS,
    ScriptedJudge,
    export,
    exported,
    generated,
    judge_with,
    lines,
    rejects,
    segment,
    summary,
)
from tools.make_rewards.__main__ import main

FIRST = "set-0-c00"


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Judges one image with scripted replies; returns its line, the folder and the judge."""
    def run(*arguments, code=0, count=1, **replies):
        out = generated(tmp_path / "run", PROMPTS[:count])
        assert segment(out) == 0
        judge = ScriptedJudge(**replies)
        assert judge_with(monkeypatch, tmp_path, judge, out, *arguments) == code
        return lines(out, "judge").get(FIRST), out, judge

    return run


def test_judge_reply_unparsable_is_asked_for_again_counted_and_becomes_no_record(judged):
    """judge reply unparsable | section 11; counted"""
    line, out, judge = judged(local="I like it.", **{"global": "It is fine."})
    assert (line["local_status"], line["global_status"], line["regions"]) == ("unparsed", "unparsed", [])
    assert line["attempts"] == [1, 5, 5] and len(judge.calls) == 11
    assert summary(out, "judge")["local_status"] == {"unparsed": 1}
    assert export(out, "--max-reject-rate", "1", "--verify") == 0 and rejects(out) == {FIRST: "local_unparsed"}
    assert export(out) == 3, "also when it was exported before"


def test_judge_reply_unparsable_with_the_official_preset_gives_zero_which_export_drops_by_its_own_name(judged):
    """judge reply unparsable | section 11; counted"""
    line, out, _ = judged("--preset", "official", **{"global": "It is fine."})
    assert line["global"]["score"] == 0.0 and line["problems"]["deterministic_retry"] == 2
    assert export(out, "--preset", "official", "--max-reject-rate", "1") == 0
    assert rejects(out) == {FIRST: "global_unparsed"}


def test_reply_cut_off_by_the_token_limit_is_truncated_retried_and_counted(judged):
    """reply cut off by the token limit | status `truncated`, retried, counted"""
    cut = Reply("<think> the circle", 4096, False)
    line, out, _ = judged(local=lambda call: cut if call.attempt < 3 else GOOD["local"])
    assert line["local_status"] == "ok" and line["attempts"][1] == 3 and line["problems"]["truncated"] == 2
    assert [call["finish_reason"] for call in line["calls"] if call["kind"] == "local"] == ["length", "length", "stop"]
    assert summary(out, "judge")["problems"]["truncated"] == 2


def test_reply_cut_off_by_the_token_limit_at_every_attempt_leaves_the_status_truncated(judged):
    """reply cut off by the token limit | status `truncated`, retried, counted"""
    line, out, _ = judged(local=Reply("<think> the circle", 4096, False))
    assert line["local_status"] == "truncated" and line["attempts"][1] == 5
    assert export(out, "--max-reject-rate", "1") == 0 and rejects(out) == {FIRST: "local_unparsed"}


@pytest.mark.parametrize(("value", "problem"), [
    ("1.5", "out_of_range"), ("-85", "out_of_range"), ("8/10", "out_of_range"), ("85%", "out_of_range"),
    ("NaN", "no_number"), ("inf", "no_number"), ("-1 to 1", "is_a_range"), ("0,8", "ambiguous_decimal"),
    ("9" * 5000, "out_of_range"),
])
def test_score_out_of_range_nan_inf_or_of_a_wrong_scale_is_unparsed_counted_and_never_rescaled(
    judged, value, problem
):
    """score out of range, NaN, inf, wrong scale | that score is unparsed, counted; never rescaled"""
    reply = f"Region ID: 1\nIdentified Object: circle\nScore: {value}\nReason: x"
    line, _, _ = judged("--set", "judge.max_attempts=2", local=reply, **{"global": reply})
    assert line["regions"] == [] and line["global"] is None
    assert line["local_status"] == line["global_status"] == "unparsed"
    assert line["problems"][problem] == 4  # two replies to each of two questions


@pytest.mark.parametrize("value", ["1.5", "-85", "8/10", "85%", "NaN", "inf", "9" * 5000])
def test_score_out_of_range_or_nan_is_no_score_with_the_official_parser_either(judged, value):
    """score out of range, NaN, inf, wrong scale | that score is unparsed, counted; never rescaled"""
    reply = f"Region ID: 1\nIdentified Object: circle\nScore: {value}\nReason: x"
    line, _, _ = judged("--set", "judge.parser=official", "--set", "judge.max_attempts=1", local=reply,
                        **{"global": reply})
    assert line["regions"] == [] and line["global"] is None
    assert line["local_status"] == line["global_status"] == "unparsed" and sum(line["problems"].values()) >= 1


def test_region_number_unknown_is_ignored_and_of_a_repeated_one_the_last_wins_both_counted(judged):
    """region number unknown or repeated | ignored / last wins, counted"""
    line, out, _ = judged(local=GOOD["local"] + "REGION 7\nSCORE: 1\n" + GOOD["local"].replace("0.5", "-0.25"))
    assert [region["score"] for region in line["regions"]] == [-0.25]
    assert summary(out, "judge")["problems"] == {"repeated_region": 1, "unknown_region": 1}


def test_non_finite_logits_fail_a_call_which_is_counted_and_asked_for_again(judged):
    """non-finite logits during decoding | that call is failed, counted; ..."""
    broken = Reply("SCORE: 1", 3, True, healthy=False)
    line, out, _ = judged(**{"global": lambda call: broken if call.attempt == 1 else GOOD["global"]})
    assert line["global"]["score"] == 0.25 and line["attempts"][2] == 2
    assert [call["finish_reason"] for call in line["calls"]][-2:] == ["non_finite", "stop"]
    assert summary(out, "judge")["problems"] == {"non_finite": 1}


def test_non_finite_logits_in_more_than_1_percent_of_calls_stop_with_an_error_naming_checkpoint_and_dtype(
    judged, capsys, tmp_path, monkeypatch
):
    """non-finite logits during decoding | ... above 1 percent of calls: stop, error naming checkpoint and dtype"""
    line, out, _ = judged(code=1, local=Reply("", 3, True, healthy=False))
    err = capsys.readouterr().err
    assert "5 of 7 replies" in err and str(tmp_path / "checkpoint") in err and "bfloat16" in err and line is None
    assert judge_with(monkeypatch, tmp_path, ScriptedJudge(), out) == 0, "the same command goes on"


@pytest.mark.parametrize(("table", "message"), [
    ('[local]\ntext = "Score $regions"', "$prompt"),
    ('[local]\ntext = "$prompt $regions $extra"', "$extra"),
    ('[identify]\ntext = "$prompt $regions"', "$keywords"),
])
def test_template_that_lacks_a_placeholder_or_has_an_unknown_one_is_an_error_before_any_work(
    tmp_path, capsys, table, message
):
    """template lacks a placeholder or has an unknown one | error before any work"""
    out = generated(tmp_path / "run", PROMPTS[:1])
    assert segment(out) == 0
    before = contents(out)
    (tmp_path / "t.toml").write_text(table)
    (tmp_path / "checkpoint").mkdir()
    assert main(["judge", "--out", str(out), "--judge", f"transformers:{tmp_path / 'checkpoint'}", "--judge-templates",
                 str(tmp_path / "t.toml")]) == 2
    assert message in capsys.readouterr().err and contents(out) == before


def test_what_the_judge_says_reaches_the_records_with_its_provenance(judged):
    _, out, _ = judged(count=2)
    assert export(out, "--verify") == 0
    record = exported(out)[FIRST]
    found = record.provenance
    assert record.regions[0].score == 0.5 and found["judge"]["kind"] == "transformers" and found["preset"] == "paper"
    assert set(found["templates"]) >= {"identify", "local", "global"} and found["base_seed"] == 42
    assert found["generator"] == {"checkpoint_sha256": "0" * 64, "dtype": "bfloat16"}
    assert found["components"]["parameters"] and found["imported"] is False and len(found["settings_sha256"]) == 64
    assert found["sampler"]["num_timesteps"] == 50 and found["think"] is False and found["seed"] >= 0
    manifest = json.loads((out / "export" / "manifest.json").read_text())
    assert manifest["settings_sha256"] == found["settings_sha256"]
    assert manifest["provenance"]["settings"]["stages"]["judge"]["preset"] == "paper"
    assert str(out) not in json.dumps(manifest) and str(out) not in json.dumps(found)
