"""What the page asks of a model: pictures, answers, a judgement, and the weights that training would make of it."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from srum_jax.data.record_reader import example_of
from srum_jax.data.schema import GlobalStatus, Region
from srum_jax.data.writer import record_of_image
from srum_jax.demo import showing
from srum_jax.demo.engine import NUM_FRAMES, Engine, objective_of
from srum_jax.errors import BadInput
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.reward_weighted import reward_weight
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.reward_map import RewardMapConfig
from tests.demo.fakes import LEFT, RIGHT, engine, squares

PROMPT = "a red square and a green square"
silent = lambda *_, **__: None  # noqa: E731


def opinion(question):
    """The left square is what it should be, the right one is not, the whole is half right."""
    if question.startswith("does the picture fit"):
        return "score: 0.5"
    box = tuple(map(int, question.removeprefix("object at ").partition(",")[0].split()))
    return {LEFT: "identified object: red square\nscore: 1.0",
            RIGHT: "identified object: blue square\nscore: -0.5"}[box]


@pytest.fixture(scope="module")
def judged():
    return engine(opinion).judge([squares()], PROMPT, "components", silent)[0]


def test_candidates_take_seeds_that_follow_each_other_and_frames_from_noise_to_the_last_step():
    told, one = [], engine()
    drawn = one.draw(PROMPT, 7, 3, plan=False, steps=True, tell=lambda text, pictures=(): told.append((text, pictures)))
    assert [candidate.seed for candidate in drawn] == [7, 8, 9]
    assert [request.seed for request in one._pipeline.requests] == [7, 8, 9]
    numbers = [frame.number for frame in drawn[2].frames]
    assert numbers[0] == 0 and numbers[-1] == 19 and len(numbers) == NUM_FRAMES and numbers == sorted(set(numbers))
    assert [frame.pixels[0, 0, 0] for frame in drawn[0].frames] == numbers
    assert [text for text, _ in told[1:]] == [f"step {number} of 20" for number in range(1, 21)]
    assert [(number, len(pictures)) for number, (_, pictures) in enumerate(told[1:]) if pictures] == [
        (number, 3) for number in numbers]


def test_a_plan_is_asked_for_with_the_limit_of_the_settings_and_kept():
    one = engine(silent, "--set", "plan.max_tokens=33")
    assert one.draw(PROMPT, 0, 1, plan=True, steps=False, tell=silent)[0].made.plan == "two squares"
    assert one.draw(PROMPT, 0, 1, plan=False, steps=False, tell=silent)[0].made.plan is None
    assert [plan and plan.max_tokens for plan in one._pipeline.plans] == [33, None]


def test_a_plan_is_told_while_it_is_written():
    told = []
    engine().draw(PROMPT, 0, 2, plan=True, steps=False, tell=lambda text, plans=(): told.append((text, plans)))
    assert told == [("planning", ()), ("planning", ["two"] * 2), ("planning", ["two squares"] * 2)]


def test_a_question_is_asked_with_the_picture_or_without():
    one = engine(lambda question: f"about {question}")
    assert one.ask(squares(), "what", False, silent).text == "about what"
    assert one.ask(None, "what", False, silent).text == "about what"


def test_what_a_model_cannot_do_is_said_with_the_reason():
    can = engine().abilities
    assert (can.draw, can.plan, can.steps, can.ask, can.judge) == (None,) * 5
    assert can.edit == "bagel makes no edits."  # nobody has asked for one: not in the words of a request's mistake


def test_each_region_is_judged_and_the_whole(judged):
    assert {region.box: region.score for region in judged.regions} == {Box(*LEFT): 1.0, Box(*RIGHT): -0.5}
    assert judged.global_score == 0.5
    assert [call.kind for call, _ in judged.asked] == ["region", "region", "global"]
    assert judged.asked[-1][0].text == f"does the picture fit: {PROMPT}" and judged.asked[-1][1].text == "score: 0.5"


def test_the_weight_of_a_token_is_alpha_times_the_score_of_its_region(judged):
    # Half-pixel centres: a token of 8 pixels reads two in its middle, so cells inside of a box have its value.
    rows, left, right = slice(2, 4), slice(1, 3), slice(4, 6)
    paper, official = judged.weighed["paper"], judged.weighed["official"]
    assert paper.alpha == official.alpha == 0.75
    expected = np.zeros((6, 6), np.float32)
    expected[rows, left], expected[rows, right] = 1.0, -0.5
    np.testing.assert_array_equal(paper.reward_map, expected)
    np.testing.assert_array_equal(paper.weight, 0.75 * expected)
    expected = np.full((6, 6), 0.5, np.float32)
    expected[rows, left] = 1.0
    np.testing.assert_array_equal(official.weight, 0.75 * expected)
    assert paper.ends == (-1.0, 0.0, 1.0) and official.ends == (0.0, 0.5, 1.0)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_the_weights_are_those_of_the_row_that_training_makes_of_the_record(judged, variant):
    one, file = engine(), io.BytesIO()
    Image.fromarray(squares()).save(file, "PNG")
    record = record_of_image(
        file.getvalue(), record_id="a", index=0, prompt=PROMPT, global_status=GlobalStatus.OK, global_score=0.5,
        provider="components", regions=tuple(Region(region.box, region.score) for region in judged.regions))
    objective = objective_of(one.settings.objective, variant)
    packer = one.family.packer(one.settings.rows, one._files.config, one._files.tokenizer, objective.columns, None)
    row = packer.empty_row()
    row.add(example_of(record, objective, with_prompt=True), np.random.default_rng(0))
    columns = row.finish().image_columns
    trained = np.asarray(reward_weight(objective, columns["alpha"], columns["reward_map"]))
    np.testing.assert_array_equal(trained[:36], judged.weighed[variant].weight.ravel())


def test_replies_that_cannot_be_read_leave_no_region_and_no_weights_as_the_paper_reads_them():
    judged = engine(lambda question: "nonsense").judge([squares()], PROMPT, "components", silent)[0]
    assert judged.regions == [] and judged.global_score is None
    assert "2 were proposed" in showing.verdicts(judged) and "more" not in showing.verdicts(judged)
    assert "global score" in judged.weighed["paper"]
    assert judged.weighed["official"].alpha == 0.5


def test_the_other_reading_keeps_what_the_experiment_says_of_both():
    objective = RewardWeighted(factor_floor=0.0, reward_map=RewardMapConfig(overlap="min", binarize="region"))
    assert objective_of(objective, "paper") == objective
    official = objective_of(objective, "official")
    assert official.factor_floor == 0.0 and official.reward_map == RewardMapConfig.official(binarize="region")


def test_an_experiment_of_another_family_is_refused():
    one = engine()
    settings = dataclasses.replace(one.settings, rows=Blip3oRows())
    with pytest.raises(BadInput, match=r"--experiment.*bagel.*Blip3oRows"):
        Engine("a", one.family, one._files, one._pipeline, settings)
