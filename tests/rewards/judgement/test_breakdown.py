"""What is read of a prompt that was broken down into questions, and what becomes of the answers."""

import math

import pytest

from srum_jax.errors import BadInput
from srum_jax.judges.yes_or_no import yes_probability
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.breakdown import (
    QuestionKind,
    YesNoQuestion,
    as_json,
    break_down,
    checked_questions,
    read_breakdown,
)
from srum_jax.rewards.judgement.calls import Reply
from srum_jax.rewards.judgement.judge_record import Subject
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.question_record import question_record
from srum_jax.rewards.judgement.settings import JudgeSettings, Mode, Unmatched
from srum_jax.rewards.proposals import Proposal

GOOD = "object | circle | Is there a circle?\nattribute | circle | Is the circle red?"
KITE, BEACH = (YesNoQuestion(QuestionKind.OBJECT, name, f"Is there a {name}?") for name in ("kite", "beach"))
YELLOW = YesNoQuestion(QuestionKind.ATTRIBUTE, "kite", "Is the kite yellow?")
ABOVE = YesNoQuestion(QuestionKind.RELATION, "kite", "Is the kite above the beach?")
SETTINGS = JudgeSettings(mode=Mode.QUESTIONS)
BROKEN_DOWN = {"attempts": 1, "calls": [], "problems": {}}


def test_each_line_is_one_question():
    reading = read_breakdown("\n" + GOOD.replace("object", "Object") + "\n", 5)
    assert reading.enough and not reading.parsed.problems
    assert reading.parsed.questions == (
        YesNoQuestion(QuestionKind.OBJECT, "circle", "Is there a circle?"),
        YesNoQuestion(QuestionKind.ATTRIBUTE, "circle", "Is the circle red?"),
    )


@pytest.mark.parametrize(("line", "problem", "asked_again"), [
    ("Here are the questions:", "malformed_question", True),
    ("object || Is there one?", "malformed_question", True),
    ("mood | circle | Is it merry?", "unknown_question_kind", True),
    ("count | circle | Are there exac", "not_a_question", True),
    ("count | circle | Is there a circle?", "repeated_question", False),
    ("count | circle | Is there one circle?", "too_many_questions", False),
])
def test_what_is_no_question_is_left_out_and_counted(line, problem, asked_again):
    reading = read_breakdown(f"{GOOD}\n{line}", 2)
    assert len(reading.parsed.questions) == 2 and reading.parsed.problems == {problem: 1}
    assert reading.enough != asked_again


def test_a_reply_that_cannot_be_read_is_asked_for_again_and_told_why():
    dialogue = break_down("a red circle", SETTINGS, JudgeTemplates.read())
    first = next(dialogue)
    assert '"a red circle"' in first.text and not first.think
    second = dialogue.send(Reply("I see no request.", 5, True))
    assert "KIND | OBJECT | QUESTION?" in second.text
    with pytest.raises(StopIteration) as end:
        dialogue.send(Reply(GOOD, 20, True))
    found = end.value.value
    assert found["attempts"] == 2 and found["problems"] == {"malformed_question": 1}
    assert [question.text for question in checked_questions(found["questions"])] == [
        "Is there a circle?", "Is the circle red?"]


def test_questions_come_back_from_json():
    assert checked_questions(as_json([KITE, ABOVE])) == (KITE, ABOVE)
    with pytest.raises(ValueError, match=r"questions\[0\].kind"):
        checked_questions([{"kind": "mood", "object": "kite", "text": "?"}])


def test_the_probability_of_yes_is_its_share_of_all_spellings():
    yes, no = [math.log(0.2), math.log(0.1)], [math.log(0.1)]
    assert yes_probability(yes, no) == pytest.approx(0.75)
    assert yes_probability([-2000.0], [-2000.0 - math.log(3)]) == pytest.approx(0.75)
    assert yes_probability([-1.0], [-2000.0]) == 1 and yes_probability([-2000.0], [-1.0]) == 0


def record(regions=(), answered=((KITE, 0.9), (BEACH, 0.6), (YELLOW, 0.2), (ABOVE, 0.5)), **settings):
    proposals = [proposal for proposal, _ in regions]
    subject = Subject("id", "a yellow kite above a beach", 48, 40, ["kite", "beach"], False, proposals)
    return question_record(subject, BROKEN_DOWN, answered, regions, JudgeSettings(mode=Mode.QUESTIONS, **settings))


def region(kite, beach, yellow):
    return Proposal(Box(0, 0, 8, 8), 64), [(KITE, kite), (BEACH, beach), (YELLOW, yellow)]


def test_the_global_score_is_the_mean_over_questions():
    found = record(neutral_band="judge")
    assert found["global"]["score"] == pytest.approx(2 * (0.9 + 0.6 + 0.2 + 0.5) / 4 - 1)
    assert [question["yes"] for question in found["questions"]] == [0.9, 0.6, 0.2, 0.5]
    assert "Is the kite yellow? 0.200" in found["global"]["reason"]


def test_a_region_is_scored_by_the_questions_about_its_object():
    found = record([region(0.8, 0.3, 0.4)])["regions"]
    assert [item["object"] for item in found] == ["kite"] and found[0]["keyword"] == "kite"
    assert found[0]["score"] == pytest.approx(2 * (0.8 + 0.4 + 0.5) / 3 - 1)  # the relation, as of the picture
    assert record([region(0.3, 0.8, 0.4)])["regions"][0]["score"] == pytest.approx(0.6)


def test_a_region_that_shows_none_of_the_objects_has_no_score():
    found = record([region(0.1, 0.3, 0.4)])
    assert not found["regions"] and found["dropped"] == [
        {"box": [0, 0, 8, 8], "verdict": "unmatched", "why": "policy"}]
    kept = record([region(0.1, 0.3, 0.4)], unmatched=Unmatched.KEEP)["regions"]
    assert kept[0]["score"] == pytest.approx(-0.4) and kept[0]["verdict"] == "unmatched"


def test_a_prompt_without_questions_has_no_score():
    found = record(answered=())
    assert found["global"] is None
    assert {found[f"{kind}_status"] for kind in ("identify", "local", "global")} == {"unparsed"}


@pytest.mark.parametrize(("table", "named"), [
    ('[question]\ntext = "$question"\nyes = []', "field 'yes'"),
    ('[question]\ntext = "$question"\nyes = ["no"]', "'yes' and 'no'"),
    ('[region]\ntext = "$prompt $box"\nno = ["no"]', "field 'no'"),
    ('[region_question]\ntext = "$question"', r"missing \$box"),
])
def test_templates_of_questions_are_checked(tmp_path, table, named):
    (tmp_path / "own.toml").write_text(table)
    with pytest.raises(BadInput, match=named):
        JudgeTemplates.read(tmp_path / "own.toml")
