import dataclasses
import json

import pytest

from srum_jax.errors import BadInput
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.calls import Call, Reply, call_seed
from srum_jax.rewards.judgement.judge_record import Subject, judge_record
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates, format_regions
from srum_jax.rewards.judgement.settings import OFFICIAL, PAPER, JudgeSettings, Mode, Unmatched, Verify
from srum_jax.rewards.proposals import Proposal

TEMPLATES = JudgeTemplates.read()
BOXES = [Box(0, 0, 60, 60), Box(0, 50, 64, 64), Box(2, 2, 30, 30), Box(5, 5, 9, 9)]
GLOBAL = "SCORE: 0.9\nREASON: well placed"


def subject(boxes=BOXES, prompt="a horse left of a microwave", directive=True) -> Subject:
    return Subject("set-1-c00", prompt, 64, 64, ["horse", "microwave"], directive,
                   [Proposal(box, box.area, 0.9) for box in boxes])


def judged(replies, settings=PAPER, of=None, **limits):
    """Runs a judgement against a script: kind -> replies in order (the last one again). Returns record and calls."""
    calls: list[Call] = []
    counts: dict[str, int] = {}
    session = judge_record(of or subject(), settings, TEMPLATES)
    try:
        call = next(session)
        while True:
            calls.append(call)
            script = replies[call.kind]
            script = script if isinstance(script, list) else [script]
            text = script[min(counts.get(call.kind, 0), len(script) - 1)]
            counts[call.kind] = counts.get(call.kind, 0) + 1
            reply = text if isinstance(text, Reply) else Reply(text, len(text.split()), True)
            call = session.send(reply)
    except StopIteration as stop:
        json.dumps(stop.value)
        return stop.value, calls


def block(number, name="a horse", keyword=None, score=0.8, severity=0.0) -> str:
    lines = [f"REGION {number}", f"OBJECT: {name}", f"SCORE: {score}", f"SEVERITY: {severity}", f"REASON: r{number}"]
    return "\n".join(lines[:2] + ([f"KEYWORD: {keyword}"] if keyword else []) + lines[2:])


IDENTIFIED = "REGION 1\nOBJECT: red balloon\nREGION 2\nOBJECT: the floor\nREGION 3\nOBJECT: a horse\nKEYWORD: horse"


def test_the_paper_preset_verifies_selects_scores_and_judges_the_layout():
    local = "\n".join([block(1, "a horse", score=0.95), block(2, "floor", score=0.6), block(3, "balloon", score=0.7),
                       block(4, "smear", score=-0.4)])
    record, calls = judged({"identify": IDENTIFIED, "local": local, "global": GLOBAL})
    assert [call.kind for call in calls] == ["identify", "local", "global"]
    # The horse first, then background, then what nobody asked for.
    assert [region["box"] for region in record["regions"]] == [[2, 2, 30, 30], [0, 50, 64, 64], [0, 0, 60, 60],
                                                               [5, 5, 9, 9]]
    assert [region["verdict"] for region in record["regions"]] == ["match", "background", "unmatched", "unmatched"]
    assert [region["score"] for region in record["regions"]] == [0.95, 0.6, 0.0, -0.4]
    assert record["regions"][2]["flags"] == ["clipped"] and record["regions"][2]["score_raw"] == 0.7
    assert record["missing_keywords"] == ["microwave"] and record["attempts"] == [1, 1, 1]
    assert record["global"] == {"score_raw": 0.9, "score": 0.9, "reason": "well placed", "flags": []}
    assert (record["identify_status"], record["local_status"], record["global_status"]) == ("partial", "ok", "ok")
    assert "Region 1: [2, 2, 30, 30]" in calls[1].text and "horse, microwave" in calls[0].text
    assert calls[0].think and calls[0].temperature is None


def test_severe_distortion_falls_into_the_penalised_range():
    record, _ = judged({"local": block(1, score=0.8, severity=0.6), "global": GLOBAL}, PAPER_SINGLE, subject(BOXES[:1]))
    assert record["regions"][0]["score"] == pytest.approx(-0.678885, abs=1e-6)
    assert record["regions"][0]["flags"] == ["claim_differs", "penalised"]


PAPER_SINGLE = JudgeSettings(verify=Verify.SINGLE)


def test_a_name_that_changes_between_the_two_calls_is_flagged_and_the_later_one_stands():
    record, _ = judged({"identify": "REGION 1\nOBJECT: a horse\nKEYWORD: horse", "local": block(1, "a red balloon"),
                        "global": GLOBAL}, of=subject(BOXES[:1]))
    region = record["regions"][0]
    assert region["verdict"] == "unmatched" and "disagrees" in region["flags"] and region["score"] == 0.0


def test_a_region_that_is_named_otherwise_when_it_is_scored_is_counted():
    names = ["a horse", "the floor", "red balloon", ""]
    identified = "\n".join(f"REGION {n}\nOBJECT: {name}" for n, name in enumerate(names, start=1))
    # Shown in the order horse, floor, balloon, nothing; the second reply counts from the second on.
    local = "\n".join(block(n, name) for n, name in enumerate(["brown horses", "a crimson balloon", "wall", "sky"], 1))
    record, _ = judged({"identify": identified, "local": local, "global": GLOBAL})
    assert [("renamed" in region["flags"]) for region in record["regions"]] == [False, True, True, False]
    assert record["problems"]["renamed_objects"] == 2
    same = "\n".join(block(n, name) for n, name in enumerate(["a mare", "ground floor", "balloon", "smear"], start=1))
    record, _ = judged({"identify": identified + "\nKEYWORD: NONE", "local": same.replace(
        "OBJECT: a mare", "OBJECT: a mare\nKEYWORD: horse"), "global": GLOBAL})
    assert "renamed_objects" not in record["problems"]


def test_a_reply_that_counts_from_0_is_asked_for_again():
    wrong = "\n".join(block(n, score=0.1) for n in range(2))
    right = "\n".join(block(n, score=0.9) for n in (1, 2))
    record, calls = judged({"local": [wrong, right], "global": GLOBAL}, PAPER_SINGLE, subject(BOXES[:2]))
    assert "the blocks were not numbered from 1 to 2 as the rectangles are" in calls[1].text
    assert [region["score_raw"] for region in record["regions"]] == [0.9, 0.9]
    assert record["problems"]["numbered_otherwise"] == 1


def test_unmatched_regions_can_be_dropped_before_and_after_scoring():
    settings = JudgeSettings(unmatched=Unmatched.DROP)
    record, calls = judged({"identify": IDENTIFIED, "local": block(1) + "\n" + block(2, "smear"), "global": GLOBAL},
                           settings)
    assert [region["box"] for region in record["regions"]] == [[2, 2, 30, 30]]
    assert [drop["why"] for drop in record["dropped"]] == ["policy"] * 3
    assert "Region 3" not in calls[1].text


def test_without_directive_the_layout_score_is_held_to_the_neutral_band():
    record, _ = judged({"local": block(1), "global": GLOBAL}, PAPER_SINGLE, subject(BOXES[:1], directive=False))
    assert record["global"]["score"] == 0.4 and record["global"]["flags"] == ["clamped"]


def test_an_unreadable_reply_is_repaired_then_sampled_then_asked_without_thinking():
    record, calls = judged({"local": ["?"], "global": GLOBAL}, PAPER_SINGLE, subject(BOXES[:1]))
    local = [call for call in calls if call.kind == "local"]
    assert [call.temperature for call in local] == [None, None, 0.3, 0.3, 0.3]
    assert [call.think for call in local] == [True, True, True, False, False]
    assert len({call.seed for call in local[2:]}) == 3 and local[2].seed == call_seed("set-1-c00", "local", 3)
    assert "could not be read: a SCORE line was missing or unreadable for region 1." in local[1].text
    assert record["local_status"] == "unparsed" and record["regions"] == []
    assert record["dropped"] == [{"box": [0, 0, 60, 60], "verdict": None, "why": "unjudged"}]


def test_the_best_of_several_replies_is_kept_and_a_full_one_ends_the_asking():
    two = subject(BOXES[:3])
    worse, better = block(1, score=0.1), block(1, score=0.2) + "\n" + block(3, score=0.3)
    record, _ = judged({"local": [worse, better], "global": GLOBAL}, PAPER_SINGLE, two)
    assert record["attempts"][1] == 2 and [region["score_raw"] for region in record["regions"]] == [0.2, 0.3]
    record, _ = judged({"local": [worse, "?"], "global": GLOBAL}, PAPER_SINGLE, two)
    assert record["attempts"][1] == 5 and [region["score_raw"] for region in record["regions"]] == [0.1]
    assert record["local_status"] == "partial"


def test_a_failed_identification_leaves_the_verdict_to_the_scoring_reply():
    record, calls = judged({"identify": "?", "local": block(1), "global": GLOBAL}, of=subject(BOXES[:1]))
    assert len([call for call in calls if call.kind == "identify"]) == 5
    assert record["problems"]["identify_failed"] == 1 and record["regions"][0]["verdict"] == "match"


def test_without_proposals_only_the_layout_is_judged():
    record, calls = judged({"global": GLOBAL}, of=subject([]))
    assert [call.kind for call in calls] == ["global"] and record["local_status"] == "skipped"


def test_an_unreadable_layout_has_no_score_in_the_paper_preset_and_zero_in_the_official_one():
    record, _ = judged({"local": block(1), "global": "hm"}, PAPER_SINGLE, subject(BOXES[:1]))
    assert record["global"] is None and record["global_status"] == "unparsed"
    official = "Region ID: 1\nIdentified Object: x\nScore: 0.5"
    record, calls = judged({"local": official, "global": "hm"}, OFFICIAL, subject(BOXES[:1]))
    assert record["global"]["score"] == 0.0 and record["global"]["flags"] == ["unparsed"]
    assert len(calls) == 2 and record["problems"]["deterministic_retry"] == 1


def test_the_official_preset_takes_regions_as_they_come_and_keeps_them_all():
    reply = "Region ID: 1\nIdentified Object: balloon\nScore: 0.9\n\nRegion ID: 2\nScore: 7.5\n\nRegion ID: 3"
    record, calls = judged({"local": reply, "global": "Score: 0.2\nReason: ok"}, OFFICIAL)
    assert [call.kind for call in calls] == ["local", "global"]
    assert [(r["score"], r["verdict"]) for r in record["regions"]] == [(0.9, None)]
    assert record["problems"] == {"out_of_range": 1} and record["missing_keywords"] == []


def test_a_reply_of_numbers_that_are_none_is_no_reply():
    record, _ = judged({"local": Reply(block(1), 3, True, healthy=False), "global": GLOBAL}, PAPER_SINGLE,
                       subject(BOXES[:1]))
    assert record["local_status"] == "unparsed" and record["problems"]["non_finite"] == 5
    assert record["calls"][0]["finish_reason"] == "non_finite"


def test_a_reply_that_was_cut_off_while_thinking_is_asked_for_again():
    cut = Reply("<think>so many things", 4, False)
    record, calls = judged({"local": [cut, block(1)], "global": GLOBAL}, PAPER_SINGLE, subject(BOXES[:1]))
    assert "it ended before the answer" in calls[1].text and record["local_status"] == "ok"
    assert [call["finish_reason"] for call in record["calls"]] == ["length", "stop", "stop"]


def test_the_whole_image_can_be_judged_by_one_score():
    settings = JudgeSettings(mode=Mode.SAMPLE)
    record, calls = judged({"sample": "IMPRESSION: fine\nSCORE: -0.5\nREASON: no"}, settings)
    assert [call.kind for call in calls] == ["sample"] and record["global_status"] == "absent"
    assert record["regions"][0]["box"] == [0, 0, 64, 64] and record["regions"][0]["score"] == -0.5
    record, calls = judged({"sample": "?", "global": GLOBAL}, JudgeSettings(mode=Mode.SAMPLE, use_global=True))
    assert record["regions"] == [] and record["global"]["score"] == 0.9


def test_boxes_are_told_in_pixels_or_in_thousandths():
    assert format_regions([(0, 5, 50, 100)], (100, 200), False) == "Region 1: [0, 5, 50, 100]"
    assert format_regions([(0, 5, 50, 100)], (100, 200), True) == "Region 1: [0, 25, 500, 500]"


@pytest.mark.parametrize(("content", "message"), [
    ("[local", "not valid TOML"),
    ("[locale]\ntext = 'x'", r"\[locale\]: expected tables named identify, local, .*, grounding, repair"),
    ("[local]\ntext = '$prompt'", r"\[local\]: placeholders: expected \$prompt, \$regions and possibly .*missing "),
    ("[global]\ntext = '$prompt $regions'", r"unknown \$regions"),
    ("[global]\ntext = '$prompt costs 5$'", "a lone dollar sign"),
    ("[global]\nmax_new_tokens = 0", "expected a positive number, found 0"),
    ("[global]\nmax_new_tokens = 'x'", r"field 'max_new_tokens': expected one of text \(str\)"),
    ("[global]\nlimit = 3", "field 'limit': expected one of"),
])
def test_a_templates_file_that_cannot_be_used_is_an_error_that_names_the_table(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(BadInput, match=message):
        JudgeTemplates.read(path)


def test_one_field_can_be_replaced_and_values_are_inserted_as_they_are(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[global]\ntext = 'Is \"$prompt\" shown for $$1?'")
    templates = JudgeTemplates.read(path)
    assert templates["global"].fill(prompt="$regions \\1") == 'Is "$regions \\1" shown for $1?'
    assert templates["global"].max_new_tokens == TEMPLATES["global"].max_new_tokens
    changed = {name for name, value in templates.checksums().items() if value != TEMPLATES.checksums()[name]}
    assert changed == {"global"}


ONE = JudgeSettings(one_by_one=True, verify=Verify.SINGLE, max_regions=3)


def test_regions_can_be_asked_about_one_by_one():
    replies = ["OBJECT: a horse\nSCORE: 0.9\nSEVERITY: 0.0\nREASON: fine", "Identified Object: floor\nScore: 0.5",
               "REGION 1\nOBJECT: microwave\nSCORE: 1.0\nSEVERITY: 1.0"]
    record, calls = judged({"region": replies, "global": GLOBAL}, ONE)
    assert [call.kind for call in calls] == ["region"] * 3 + ["global"]
    assert "edge at 0 50 64 64." in calls[1].text and "$" not in calls[1].text
    assert [region["score"] for region in record["regions"]] == [0.9, 0.5, -0.9]
    assert [region["object"] for region in record["regions"]] == ["a horse", "floor", "microwave"]
    assert [call.get("region") for call in record["calls"]] == [1, 2, 3, None]
    assert record["local_status"] == "ok" and record["problems"] == {"bad_severity": 1}
    assert record["dropped"] == [{"box": [5, 5, 9, 9], "verdict": None, "why": "limit"}]


def test_a_region_whose_own_reply_cannot_be_read_is_repaired_and_then_dropped_alone():
    good = "OBJECT: a horse\nSCORE: 0.9\nSEVERITY: 0"
    record, calls = judged({"region": [good, "what?", "what?", good], "global": GLOBAL},
                           dataclasses.replace(ONE, max_attempts=2))
    assert [call.attempt for call in calls] == [1, 1, 2, 1, 1] and "could not be read" in calls[2].text
    assert len(record["regions"]) == 2 and record["local_status"] == "partial" and record["attempts"] == [0, 2, 1]
    assert record["dropped"][-1] == {"box": [0, 50, 64, 64], "verdict": None, "why": "unjudged"}
    record, calls = judged({"region": "what?", "global": GLOBAL}, ONE)
    assert record["local_status"] == "unparsed" and not record["regions"] and record["attempts"][1] == 5
    seeds = [call.seed for call in calls if call.attempt == 3 and call.kind == "region"]
    assert len(set(seeds)) == 3  # every region is sampled with its own


def test_one_by_one_does_not_go_with_the_official_parser():
    with pytest.raises(ValueError, match="one_by_one: expected the tolerant parser"):
        dataclasses.replace(OFFICIAL, one_by_one=True)
