"""Replies as models really write them when they go wrong: no parser breaks, and no score leaves [-1, 1]."""

import json
import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.calls import Reply
from srum_jax.rewards.judgement.judge_record import Subject, judge_record
from srum_jax.rewards.judgement.judge_reply import parse_image_reply, parse_region_reply
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.official_reply import official_layout, official_regions, official_sample
from srum_jax.rewards.judgement.settings import OFFICIAL, PAPER, JudgeSettings, Mode
from srum_jax.rewards.proposals import Proposal

NUM_REGIONS = 3
REPLIES = 10 * settings.default.max_examples  # 500; with HYPOTHESIS_PROFILE=nightly 10,000
TEMPLATES = JudgeTemplates.read()
CHOICES = (PAPER, OFFICIAL, JudgeSettings(mode=Mode.SAMPLE, use_global=True), JudgeSettings(parser="official"))

NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.floats(-1, 1).map("{:.2f}".format),
    st.integers(-(10**40), 10**40).map(str),
    st.sampled_from([
        "nan", "NaN", "inf", "-inf", "Infinity", "1e308", "1e999", "-0", "--0.5", "+-1", "\u22120.5", "\u2013.5", "0,8",
        "8/10", "0.8/1", "0.8/0", "1/0.0", "85%", "-1 to 1", "0.2 - 0.4", "0.5 out of 1", "1 out of 0", "perfect",
        "\u0660.\u0665", "\uff10.\uff15", "\u00bd", "0.5.5", ".", "-", "[0.5]", "**0.5**", "`-1`", "(1)", '"0.3"',
        "9" * 5000, "0." + "9" * 5000, "1_0", "0x1", "\u221e", "1e-400", "", " ", "<score>", "0.5\u200b", "\u202e5.0"]),
)
WORDS = st.one_of(
    st.sampled_from(["a red circle", "NONE", "BACKGROUND", "circle", "\u4e00\u53ea\u732b", "\u0642\u0637\u0629",
                     "\u043a\u0440\u0443\u0433", "Katze\u0308", "\U0001f600" * 9, "", "$prompt", "{x}", "\\", "'; --",
                     "SCORE: 1", "Region 2", "</think>", "a\x00b", "\ufeff", "x" * 3000]),
    st.text(max_size=15))
REGION_NUMBERS = st.one_of(st.integers(-2, 9).map(str), st.sampled_from([
    "1", "1", "2", "3", "99999999999999999999", "1.5", "one", "\u0661", "", "1)", "#2", " 3 "]))
MARKS = st.sampled_from(["{}", "**{}**", "- {}", "1. {}", "> {}", "### {}", "`{}`", "* **{}", "  {}", "\t{}", "| {} |"])


def labelled(names, values):
    signs = st.sampled_from([":", ": ", "\uff1a", " = ", ":\n", " "])
    return st.tuples(st.sampled_from(names), signs, values).map("".join)


LINES = st.one_of(
    st.tuples(st.sampled_from(["REGION {}", "Region ID: {}", "region #{}", "Region No. {}:", "\u533a\u57df {}",
                               "[Region {}]"]), REGION_NUMBERS).map(lambda pair: pair[0].format(pair[1])),
    labelled(["SCORE", "Score", "Layout Score", "\u5f97\u5206", "score", "Final overall score"], NUMBERS),
    labelled(["SEVERITY", "Severity"], NUMBERS),
    labelled(["OBJECT", "Identified Object", "KEYWORD", "REASON", "Overall Impression", "Raison", "\u7406\u7531",
              "Composition Analysis"], WORDS),
    WORDS,
    st.sampled_from(["---", "===", "", "```json", "```", "<think>", "</think>", "< / THINK >", "<think/>", "|---|"]),
    st.lists(st.fixed_dictionaries({"region": REGION_NUMBERS, "score": NUMBERS}), max_size=3).map(
        lambda entries: json.dumps(entries, ensure_ascii=False)),
)


@st.composite
def replies(draw):
    """Lines in a language of their own, marked up, perhaps repeated, perhaps cut off anywhere."""
    lines = draw(st.lists(st.builds(lambda mark, line: mark.format(line), MARKS, LINES), max_size=14))
    if draw(st.booleans()):
        lines = lines * 2
    text = draw(st.sampled_from(["\n", "\n", "\n\n", "\r\n", " ", "\r"])).join(lines)
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


def check_parsers(reply):
    for wanted in ("score", "object"):
        parsed = parse_region_reply(reply, NUM_REGIONS, wanted=wanted, severity=True)
        for number, fields in parsed.regions.items():
            assert 1 <= number <= NUM_REGIONS
            assert fields.score.value is None if wanted == "object" and fields.score.problem else True
            assert fields.score.value is None or -1 <= fields.score.value <= 1
            assert fields.severity.value is None or 0 <= fields.severity.value <= 1
            assert wanted == "object" or fields.score.value is not None
    score = parse_image_reply(reply).fields.score.value
    assert score is None or -1 <= score <= 1
    for number, fields in official_regions(reply).items():
        assert number >= 0 and isinstance(fields.get("score", 0.0), float)
    assert isinstance(official_layout(reply), dict) and isinstance(official_sample(reply), dict)


def check_judgement(texts, choice):
    """A whole judgement of one image by a judge that talks like this."""
    proposals = [Proposal(Box(0, 0, 9 - n, 9), 90 - n) for n in range(NUM_REGIONS)]
    subject = Subject("id", "a red circle left of a square", 20, 20, ["circle", "square"], choice % 2 == 0, proposals)
    chosen = CHOICES[choice]
    judging, asked = judge_record(subject, chosen, TEMPLATES), 0
    next(judging)
    while True:
        text = texts[asked % len(texts)]
        try:
            judging.send(Reply(text, len(text), asked % 5 != 3, healthy=asked % 7 != 6))
        except StopIteration as stop:
            record = stop.value
            break
        asked += 1
        assert asked < 16, "five attempts for each of three questions"
    for region in record["regions"]:
        for name in ("score", "score_raw"):
            assert math.isfinite(region[name]) and -1 <= region[name] <= 1
        assert 0 <= region["severity"] <= 1 and (len(region["reason"]) <= 2000 or chosen.parser == "official")
    if record["global"] is not None:
        assert -1 <= record["global"]["score"] <= 1
    json.dumps(record, allow_nan=False)


@settings(max_examples=REPLIES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(replies())
def test_no_reply_breaks_a_parser_and_no_score_leaves_its_range(reply):
    check_parsers(reply)


@settings(max_examples=REPLIES // 4, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(replies(), min_size=1, max_size=4), st.integers(0, 3))
def test_no_replies_break_a_judgement_and_what_is_recorded_is_json_in_range(texts, choice):
    check_judgement(texts, choice)
