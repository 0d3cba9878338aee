"""The same answer as lines, as JSON and as a table; numbering, labels and scales that are not those that were asked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.rewards.judgement.judge_reply import parse_image_reply, parse_region_reply

ENTRIES = st.lists(st.fixed_dictionaries({
    "object": st.sampled_from(["a cat", "the floor", "red ring"]),
    "score": st.integers(-100, 100).map(lambda n: n / 100),
    "severity": st.integers(0, 100).map(lambda n: n / 100),
    "reason": st.sampled_from(["sharp", "torn \u2014 and blurred", "\u5f88\u597d"]),
}), min_size=1, max_size=4)
BLOCK = "REGION {}\nOBJECT: {object}\nSCORE: {score}\nSEVERITY: {severity}\nREASON: {reason}"


def scores(reply, n=3):
    return {number: fields.score.value for number, fields in parse_region_reply(reply, n).regions.items()}


def problems(reply, n=3):
    found = dict(parse_region_reply(reply, n).problems)
    found.pop("missing_region", None)
    return found


@given(ENTRIES, st.booleans(), st.sampled_from([None, 1]))
def test_lines_json_and_tables_say_the_same(entries, fenced, indent):
    lines = "\n".join(BLOCK.format(number, **entry) for number, entry in enumerate(entries, start=1))
    expected = parse_region_reply(lines, len(entries), severity=True)
    assert expected.status == "ok" and not expected.problems
    listed = [{"region": number, **entry} for number, entry in enumerate(entries, start=1)]
    named = {f"Region {number}": entry for number, entry in enumerate(entries, start=1)}
    answers = [json.dumps(value, indent=indent) for value in (listed, {"regions": listed}, named)]
    answers.append("\n".join(map(json.dumps, listed)))
    if fenced:
        answers = [f"Here is my answer:\n\n```json\n{answer}\n```\nI hope it helps." for answer in answers]
    heads = ["Region", "Object", "Score", "Severity", "Reason"]
    rows = [[str(n), *(str(entry[head.lower()]) for head in heads[1:])] for n, entry in enumerate(entries, start=1)]
    for rule in ("---", ":-:"):
        table = [heads, [rule] * 5, *rows]
        answers.append("\n".join(f"| {' | '.join(row)} |" for row in table))
        answers.append("My judgement:\n\n" + "\n".join(" | ".join(row) for row in table) + "\n\nThat is all.")
    for answer in answers:
        assert parse_region_reply(answer, len(entries), severity=True) == expected, answer


def test_a_judgement_of_the_image_may_be_json_or_a_table_too():
    for reply in ('{"score": 0.4, "reason": "fine"}', 'My answer: {"score": 0.4, "reason": "fine"}',
                  '```json {"score": 0.4, "reason": "fine"} ```', '```\n{"Layout Score": "0.4", "Reason": "fine"}\n```',
                  '{"answer": {"layout_score": 0.4, "reason": "fine"}}',
                  "| Score | Reason |\n|---|---|\n| 0.4 | fine |"):
        fields = parse_image_reply(reply).fields
        assert (fields.score.value, fields.reason) == (0.4, "fine"), reply
    assert parse_image_reply('[{"score": 0.4}, {"score": 0.5}]').problems == {"several_numbers": 1}


@pytest.mark.parametrize(("reply", "expected", "found"), [
    ('[{"region": 1, "score": "8/10"}, {"region": 2, "score": 7}]', {}, {"out_of_range": 2}),
    ('[{"region": 1, "score": null}, {"region": 2, "score": true}, {"region": 3}]', {}, {"no_number": 2}),
    ('[{"region": 1, "score": NaN}, {"region": 2, "score": 1e-1}]', {}, {"no_number": 1, "unclear_number": 1}),
    ('[{"region": 1, "score": 1, "score": 0.5}]', {}, {"several_numbers": 1}),
    ('[{"region": 1, "score": 1, "max_score": 10}]', {}, {"foreign_scale": 1}),
    ('{"scale": "1-10", "regions": [{"region": 1, "score": 1}]}', {}, {"foreign_scale": 1}),
    ('{"out_of": 10, "regions": [{"region": 1, "score": 1}]}', {}, {"foreign_scale": 1}),
    ('[{"region": 1, "score": 1, "best": 10}]', {}, {"foreign_scale": 1}),
    ('[{"region": 1, "score": 1, "unit": "percent"}]', {}, {"foreign_scale": 1}),
    ('[{"region": 1, "score": 1}, {"region": 2, "score": 7}, {"region": 3, "score": 0.5}]', {},
     {"foreign_scale": 2, "out_of_range": 1}),
    ("| Region | Score |\n|---|---|\n| Scale | 1-10 |\n| 1 | 1 |", {}, {"foreign_scale": 1, "unknown_region": 1}),
    ('{"region_1": {"score": 0.5}, "rectangle_2": {"score": 0.6}}', {1: 0.5, 2: 0.6}, {}),
    ('[{"rectangle": 1, "score": 0.5}, {"region": 2, "rectangle": [1, 2, 3, 4], "score": 0.6}]', {1: 0.5, 2: 0.6}, {}),
    ('[{"score": 0.5}, {"score": 0.6}]', {}, {"unknown_region": 2}),
    ('[{"region": "1 and 2", "score": 0.5}]', {}, {"unknown_region": 1}),
    ('[{"region": 1, "score": 0.5}, {"region": 2, "sco', {}, {}),
    ("| Region | Score (out of 10) |\n|---|---|\n| 1 | 1 |", {}, {}),
    ("| Region | Score | Max |\n|---|---|---|\n| 1 | 1 | 10 |", {}, {"foreign_scale": 1}),
    ('[{"region": 1, "score": 1, "max_possible": 10}]', {}, {"foreign_scale": 1}),
    ('{"range": [1, 10], "regions": [{"region": 1, "score": 1}]}', {}, {"foreign_scale": 1}),
    ("| Region | Score (-1 to 1) |\n|---|---|\n| 1 | **1** |\n| Region 2 | -0.5 | more |", {1: 1.0},
     {"unknown_region": 1}),
    ("| # | Score |\n|---|---|\n| 1 | 7/10 |\n| 2 | 0.5 \\| 0.6 |", {}, {"out_of_range": 1, "unclear_number": 1}),
])
def test_json_and_tables_are_read_by_the_same_strict_rules(reply, expected, found):
    assert scores(reply) == expected and problems(reply) == found


@pytest.mark.parametrize("reply", [
    "REGION 0\nSCORE: 1\nREGION 1\nSCORE: 0\nREGION 2\nSCORE: -1",
    "REGION 0\nSCORE: 1\nREGION 1\nSCORE: 0\nREGION 2\nSCORE: -1\nREGION 3\nSCORE: 1",
    "REGION 2\nSCORE: 1\nREGION 3\nSCORE: 0\nREGION 4\nSCORE: -1",
    "Region zero:\nSCORE: 1\nREGION 1\nSCORE: 0\nREGION 2\nSCORE: -1",
    "RECTANGLE 0\nSCORE: 1\nRECTANGLE 1\nSCORE: 0\nRECTANGLE 2\nSCORE: -1",
    '[{"region": 0, "score": 1}, {"region": 1, "score": 0}, {"region": 2, "score": -1}]',
    '{"0": {"score": 1}, "1": {"score": 0}, "2": {"score": -1}}',
    "| Region | Score |\n|---|---|\n| 0 | 1 |\n| 1 | 0 |\n| 2 | -1 |",
])
def test_regions_that_are_not_counted_from_1_are_refused(reply):
    for wanted in ("score", "object"):
        found = parse_region_reply(reply.replace("SCORE", "OBJECT") if wanted == "object" else reply, 3, wanted=wanted)
        assert found.status == "no_region" and found.problems["numbered_otherwise"] == 1


@pytest.mark.parametrize(("reply", "expected", "found"), [
    ("Region 1-2\nSCORE: 1", {}, {"unknown_region": 1}),
    ("Region 1 and 2:\nSCORE: 1", {}, {"unknown_region": 1}),
    ("Region 1, 2\nSCORE: 1", {}, {"unknown_region": 1}),
    ("Region 1.5\nSCORE: 1", {}, {"unknown_region": 1}),
    ("Region -1\nSCORE: 1", {}, {"unknown_region": 1}),
    ("Region 1a\nSCORE: 1\nRegion 1b\nSCORE: 0", {}, {"unknown_region": 2}),
    ("REGION 1\nSCORE: 0.2\nRegion two\nSCORE: 0.5", {1: 0.2}, {"unknown_region": 1}),
    ("REGION 2\nREASON: torn\nRegion 1 hides the horse.\nSCORE: 0.9", {2: 0.9}, {}),
    ("REGION 1\nRectangle: 10, 20, 30, 40\nSCORE: 0.9", {1: 0.9}, {}),
    ("Rectangle 1: a horse\nSCORE: 0.5", {1: 0.5}, {}),
    ("Region 1: a horse\nSCORE: 0.5\nRegion 2 (the floor)\nSCORE: 0.25", {1: 0.5, 2: 0.25}, {}),
])
def test_a_head_names_one_region_or_none(reply, expected, found):
    assert scores(reply) == expected and problems(reply) == found


@pytest.mark.parametrize(("reply", "problem"), [
    ("REGION 1\nRelevance: 9\nSCORE: 0.5 SCORE: 0.9", "unclear_number"),
    ("REGION 1\nSCORE: 0.5\nSCORE: 0.9", "several_numbers"),
    ("REGION 1\nFinal Score: 0.5\nOverall Score: 0.9", "several_numbers"),
    ("REGION 1\nSCORE: 0.5, SEVERITY: 0.1", "unclear_number"),
    ("REGION 1\nConfidence Score: 0.9", "no_number"),
    ("REGION 1\nPercent score: 1", "no_number"),
    ("REGION 1\nScore (out of 10): 1", "no_number"),
    ("REGION 1\nMax Score: 10\nSCORE: 1", "foreign_scale"),
    ("All scores are out of 10.\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("Scores on a scale of 1 to 10:\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("Scores range from 0 to 1\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("(1 = worst, 10 = best)\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("I rate each from 1 to 10.\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nMAX: 10", "foreign_scale"),
    ("I used a 5-point scale.\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nREASON: sharp\n\n(Scale: 1-10)", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nREASON: \u6ee1\u520610\u5206", "foreign_scale"),
    ("REGION 1\nSCORE: 1\n/10", "out_of_range"),
    ("REGION 1\nSCORE:\n1\nout of 10", "out_of_range"),
    ("REGION 1\nSCORE: 1\n\n- out of 10", "out_of_range"),
    ("REGION 1\nSCORE: 1\nNote: the maximum is 10.", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nREASON: I give it 1 out of 10", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nREASON: 1 on a scale of ten", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nREASON: 1/10, nothing fits", "foreign_scale"),
    ("REGION 1\nSCORE: 1 (A)", "unclear_number"),
    ("REGION 1\nSCORE: 1\nSEVERITY: 7", "foreign_scale"),
    ("REGION 1\nSCORE: 1\n10", "unclear_number"),
    ("REGION 1\nSCORE: 1\n- 10", "unclear_number"),
    ("REGION 1\nSCORE: 1\nfrom 10", "unclear_number"),
    ("REGION 1\nSCORE: 1\nout\nof 10", "unclear_number"),
    ("REGION 1\nSCORE: 1\nmax. 10", "unclear_number"),
    ("REGION 1\nSCORE: 1\nREASON: one star of five", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nREASON: 10 would be perfect", "foreign_scale"),
    ("10 is best.\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nREASON: a perfect picture would get a ten", "foreign_scale"),
    ("I score pictures between one and ten.\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("Skala von 1 bis 10\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("Escala de 1 a 10\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("REGION 1\nSCORE: 1\nNote sur 10", "foreign_scale"),
    ("\u041f\u043e \u0448\u043a\u0430\u043b\u0435 \u043e\u0442 1 \u0434\u043e 10\nREGION 1\nSCORE: 1", "foreign_scale"),
    ("REGION 1\nSCORE: 1\n10\u70b9\u6e80\u70b9", "foreign_scale"),
    ("REGION 1\nSCORE: 0.9 (lower is better)", "unclear_number"),
    ("REGION 1\nSCORE: 0.9 (confidence)", "unclear_number"),
    ("REGION 1\nSCORE: 0.9, before the penalty", "unclear_number"),
])
def test_numbers_that_are_not_plainly_the_asked_score_are_none(reply, problem):
    assert scores(reply, 1) == {} and problems(reply, 1) == {problem: 1}


@pytest.mark.parametrize("reply", [
    "Scores on a scale of -1 to 1:\nREGION 1\nSCORE: 0.5",
    "REGION 1\nSCORE: 0.5\nSCORE: 0.50",
    "REGION 1\nSCORE\uff1a0.5\uff08\u5f88\u597d\uff09",
    "REGION 1\nSCORE: 0.5. Reason: two of ten apples are torn",
    "REGION 1\n**Final Score**: **0.5**",
    "| Region | Score | Comment |\n|---|---|---|\n| 1 | 0.5 | two of ten apples are torn |",
    "REGION 1\nOBJECT: apples\nSCORE: 0.5\nREASON: Region 2 is perfect, 100% of it; 3 to 5 apples, scores of them.",
    "(-1 = worst, 1 = best)\nREGION 1\nSCORE: 0.5",
    "REGION 1\nSCORE: 0.5, the lower part is torn\nREASON: it would get 0.9 with both cats, there should be two",
    "REGION 1\nSCORE: 0.5\n\nIn short, on the whole, it fits.",
    "REGION 1\nSCORE: 0.5\n(The apples are sharp.)",
    "REGION 1\nSCORE: 0.5/1\nREASON: two out of ten apples are torn",
])
def test_what_is_plain_stays_plain_in_company(reply):
    assert scores(reply, 1) == {1: 0.5} and problems(reply, 1) == {}
