"""Regions that a model names itself: what of its replies can be used, and what is counted."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.regions.grounding import Grounding, GroundingConfig, Pictured, read_boxes
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.calls import Reply
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates

CONFIG = GroundingConfig()
FRAME, SIZE = (1036, 518), (1024, 512)  # height and width, as read and as stored


def listed(*boxes, **more):
    return json.dumps([{"bbox_2d": list(box), "label": "cat"} | more for box in boxes])


def read(reply, config=CONFIG):
    return read_boxes(reply, FRAME, SIZE, config)


def corners(found):
    return [tuple(proposal.corners) for proposal in found.proposals]


def test_boxes_are_in_pixels_of_the_picture_as_it_was_read_and_come_back_in_those_of_the_stored_one():
    found = read(listed((0, 0, 259, 518), (259, 518, 518, 1036)))
    assert corners(found) == [(0, 0, 256, 512), (256, 512, 512, 1024)]
    assert [proposal.label for proposal in found.proposals] == ["cat", "cat"]
    assert found.usable and found.dropped == {} and found.problems == {}


@pytest.mark.parametrize("reply", [
    "```json\n[{}]\n```", "Here they are:\n[{}] That is all.", "{}", '{{"objects": [{}]}}',
])
def test_words_a_code_fence_or_an_object_around_it_do_no_harm(reply):
    found = read(reply.format('{"bbox_2d": [10, 20, 110, 220], "label": "a dog"}'))
    assert corners(found) == [(10, 20, 109, 217)] and found.problems == {}


def test_of_a_list_that_is_cut_off_what_is_complete_counts():
    found = read(listed((0, 0, 100, 100), (200, 200, 300, 300))[:-20])
    assert corners(found) == [(0, 0, 99, 99)] and found.problems == {"cut_off": 1}


def test_corners_may_be_reversed_and_boxes_reach_beyond_the_picture():
    found = read(listed((300, 400, 100, 200), (-50, 900, 90, 2000)))
    assert corners(found) == [(99, 198, 297, 395), (0, 890, 89, 1024)]
    assert found.problems == {"clamped": 1}


@pytest.mark.parametrize("element, kind", [
    ({"bbox_2d": [1, 2, 3]}, "malformed"), ({"bbox_2d": [1, 2, 3, 4, 5]}, "malformed"), ({"bbox_2d": "1 2 3 4"},
                                                                                        "malformed"),
    ({"bbox_2d": [1, 2, "3", 4]}, "malformed"), ({"bbox_2d": [1, 2, True, 4]}, "malformed"), ({"label": "cat"},
                                                                                             "malformed"),
    ({"bbox_2d": [1, 2, float("nan"), 4]}, "malformed"), ({"bbox_2d": [1, 2, float("inf"), 4]}, "malformed"),
    ({"bbox_2d": [1, 2, 10**400, 4]}, "malformed"),
    ({"bbox_2d": [600, 0, 700, 100]}, "outside"), ({"bbox_2d": [-90, -90, -9, -9]}, "outside"),
    ({"bbox_2d": [9, 9, 9, 90]}, "empty"), ({"bbox_2d": [9, 9, 15, 90]}, "narrow"),
])
def test_what_is_no_box_inside_the_picture_is_counted_by_kind(element, kind):
    found = read(json.dumps([element]))
    assert found.proposals == () and found.dropped == {kind: 1} and found.num_found == 1 and not found.usable


@pytest.mark.parametrize("reply", ["", "I see a cat at 10, 20, 30, 40.", "[10, 20, 30, 40]", '[{"bbox_2d": [1, 2'])
def test_a_reply_that_holds_no_list_of_objects_is_no_json(reply):
    found = read(reply)
    assert found.problems == {"not_json": 1} and not found.usable


def test_an_empty_list_says_that_there_is_nothing():
    found = read("[]")
    assert found.usable and found.proposals == () and found.problems == {}


def test_the_largest_come_first_and_of_boxes_that_overlap_almost_wholly_one_is_kept():
    found = read(listed((0, 0, 100, 100), (200, 200, 400, 400), (1, 0, 101, 100), (202, 200, 400, 400)))
    assert corners(found) == [(198, 198, 395, 395), (0, 0, 99, 99)] and found.dropped == {"merged": 2}
    assert len(read(listed((0, 0, 100, 100), (1, 0, 101, 100)), GroundingConfig(merge_iou=1.0)).proposals) == 2


@given(st.text() | st.lists(st.dictionaries(st.sampled_from(["bbox_2d", "label"]), st.lists(
    st.none() | st.floats() | st.integers() | st.text(max_size=2), max_size=5))).map(json.dumps))
def test_whatever_is_replied_proposals_lie_inside_the_picture(reply):
    found = read(reply)
    assert all(proposal.corners.inside(*SIZE[::-1]) for proposal in found.proposals)
    assert len(found.proposals) + sum(found.dropped.values()) == found.num_found


class Scripted:
    """Gives its replies in turn, to whomever."""

    def __init__(self, *replies):
        self.replies, self.calls = list(replies), []

    def answer(self, calls):
        self.calls += [call for _, call in calls]
        return [Reply(self.replies.pop(0), 9, True) for _ in calls]


PICTURE = Pictured("set/0/00", np.zeros((*SIZE, 3), np.uint8), "a cat on a mat", ("cat", "mat"))


def proposed(judge, **settings):
    provider = Grounding(judge, lambda height, width: FRAME, GroundingConfig(**settings), JudgeTemplates.read())
    return provider.propose([PICTURE])[0]


def test_the_question_names_the_prompt_and_its_things_and_is_decoded_greedily_without_thinking():
    judge = Scripted(listed((0, 0, 259, 518)))
    found = proposed(judge)
    assert [tuple(proposal.corners) for proposal in found["proposals"]] == [(0, 0, 256, 512)]
    call, = judge.calls
    assert "a cat on a mat" in call.text and "cat, mat" in call.text and '"bbox_2d"' in call.text
    assert call.temperature is None and not call.think and call.max_new_tokens == 1024
    assert found["flags"] == [] and found["num_found"] == 1


def test_an_unusable_reply_is_asked_for_again_and_says_what_was_wrong():
    judge = Scripted("no idea", listed((600, 0, 700, 100)), listed((0, 0, 259, 518)))
    found = proposed(judge)
    assert len(found["proposals"]) == 1 and [call["attempt"] for call in found["calls"]] == [1, 2, 3]
    assert found["problems"] == {"not_json": 1}
    assert "no JSON list" in judge.calls[1].text and "inside the picture" in judge.calls[2].text


def test_without_any_usable_reply_the_whole_picture_is_the_region():
    found = proposed(Scripted(*["no idea"] * 2), max_attempts=2)
    assert [tuple(proposal.corners) for proposal in found["proposals"]] == [(0, 0, 512, 1024)]
    assert found["flags"] == ["fallback_whole_image"] and found["problems"] == {"not_json": 2}


@pytest.mark.parametrize("wrong", [{"min_side": 0}, {"merge_iou": 0.0}, {"max_attempts": 0}, {"merge_iou": 1.5}])
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"grounding.{next(iter(wrong))}"):
        GroundingConfig(**wrong)


def test_boxes_are_told_in_the_frame_again():
    box = Box(0, 512, 256, 1024)
    assert box.scaled((512, 1024), FRAME[::-1]) == (0, 518, 259, 1036)
    assert box.iou(Box(0, 512, 256, 768)) == 0.5 and box.iou(Box(256, 0, 512, 512)) == 0
