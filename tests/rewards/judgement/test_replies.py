import pytest

from srum_jax.rewards.judgement.judge_reply import parse_image_reply, parse_region_reply
from srum_jax.rewards.judgement.official_reply import official_layout, official_regions, official_sample
from srum_jax.rewards.judgement.score_number import parse_score
from tests.golden import golden_json
from tests.rewards.judgement.vectors import vectors

OFFICIAL = {
    "parse_vlm_evaluation_output": lambda reply: {str(n): r for n, r in official_regions(reply).items()},
    "parse_global_layout_output": official_layout,
    "parse_sample_level_output": official_sample,
}


def scores(reply: str, n: int = 9) -> dict[int, float]:
    return {number: fields.score.value for number, fields in parse_region_reply(reply, n).regions.items()}


def test_the_official_parsers_find_what_the_authors_find():
    for case in golden_json("bagel/rewards/judge_replies.json"):
        assert OFFICIAL[case["parser"]](case["reply"]) == case["result"], case["reply"]


def test_numbers_of_the_worked_examples():
    for case in vectors("score_numbers"):
        found = parse_score(case["text"])
        assert (found.value, found.problem) == (case["score"], case["reason"]), case


def test_replies_of_which_the_authors_lose_regions_are_read_whole():
    markdown = "**Region ID: 1**\n**Identified Object:** a vase\n**Score:** 0.8\n---\n**Region ID: 2**\nScore: -0.1"
    assert scores(markdown) == {1: 0.8, 2: -0.1}
    assert parse_region_reply(markdown, 2).regions[1].object == "a vase"
    assert scores("Region ID: 1\r\nScore: 0.4\r\n\r\nRegion ID: 2\r\nScore: 0.7") == {1: 0.4, 2: 0.7}
    assert scores("Region 1\n\nIdentified Object: x\n\nScore: .5\n \nREGION #2\nScore\uff1a +0.25") == {1: 0.5, 2: 0.25}


@pytest.mark.parametrize(("reply", "expected"), [
    ("1. REGION 1\n   - OBJECT: cup\n   - SCORE: \u22120.5", {1: -0.5}),
    ("> ### Region 2:\n> * Final Score = 0.3", {2: 0.3}),
    ("Region 3: Score: 0.2", {3: 0.2}),
    ("REGION 1\nSCORE:\n-0.5", {1: -0.5}),
    ("REGION 1\nSCORE:\n- 0.5", {}),  # a bullet or a sign: nobody can tell
    ("REGION 1\nSCORE:\nREASON: none", {}),
    ("REGION 1\nSCORE:\n\n---\n`0.75`", {1: 0.75}),
    ("REGION 1\nSCORE: high\nREGION 2\nSCORE: 1", {2: 1.0}),
    ("REGION 1\nSCORE: 8/10\nREGION 2\nSCORE: 1", {}),  # of the same 10
    ("REGION 1\nSCORE: 0.5\nREGION 1\nSCORE: 0.1", {1: 0.1}),
    ("REGION 1\nSCORE: 0.5\nREGION 1\nSCORE: high", {1: 0.5}),
    ("REGION 0\nSCORE: 0.5\nREGION 10\nSCORE: 0.5\nREGION 99999999999999999999\nSCORE: 1", {}),
    ("REGION 1\nSCORE: 0.5\nREGION 99999999999999999999\nSCORE: 1", {1: 0.5}),
    ("<think>REGION 1\nSCORE: 1</think>REGION 1\nSCORE: -1", {1: -1.0}),
    ("<think>a</think>REGION 1\nSCORE: 1\n</think>REGION 2\nSCORE: 0", {2: 0.0}),
    ("no regions here. Score: 0.5", {}),
])
def test_regions_in_any_dress(reply, expected):
    assert scores(reply) == expected


def test_statuses_and_problems_of_region_replies():
    assert parse_region_reply("<think> REGION 1\nSCORE: 1", 1).status == "truncated"
    assert parse_region_reply("nothing", 2).status == "no_region"
    partial = parse_region_reply("REGION 1\nSCORE: 0.5\nREGION 2\nSCORE: good\nREGION 7\nREGION 1\nSCORE: 0.6", 2,
                                 severity=True)
    assert partial.status == "partial"
    assert partial.problems == {"bad_severity": 3, "no_number": 1, "unknown_region": 1, "repeated_region": 1}
    done = parse_region_reply("REGION 1\nSCORE: 0.5\nSEVERITY: 0.75\nREASON: soft\nmore", 1, severity=True)
    assert done.status == "ok" and done.problems == {}
    assert done.regions[1].severity.value == 0.75 and done.regions[1].reason == "soft"


def test_an_identification_needs_no_score():
    reply = parse_region_reply("REGION 1\nOBJECT: a horse\nKEYWORD: horse\nREGION 2\nKEYWORD: NONE\nREGION 3", 3,
                               wanted="object")
    assert reply.status == "partial" and set(reply.regions) == {1, 2}
    assert reply.regions[1].object == "a horse" and reply.regions[2].claim == "NONE"


def test_replies_about_the_whole_image():
    reply = parse_image_reply("Overall Impression: sharp\n**Layout Score:** 0.4/1.0\nReason: fine\nand more")
    assert reply.status == "ok" and reply.fields.score.value == 0.4
    assert reply.fields.impression == "sharp" and reply.fields.reason == "fine\nand more"
    assert parse_image_reply("it deserves a score of 0.4").problems == {"no_number": 1}
    assert parse_image_reply("<think> Score: 1").status == "truncated"
    assert len(parse_image_reply("Score: 1\nReason: " + "x" * 5000).fields.reason) == 2000
