"""Tidy scenes: places and sizes that follow from what is drawn."""

import numpy as np
import pytest

from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.layout import Draft, DraftObject, draft_of, lay_out_tidily
from srum_jax.worlds.shapes.oracle import judge_image, judge_scene
from srum_jax.worlds.shapes.prompts import parse_prompt
from srum_jax.worlds.shapes.records import sample_example


def _centers(text):
    """Columns and rows of the cells in which objects lie."""
    shapes = lay_out_tidily(draft_of(parse_prompt(text), np.random.default_rng(0))).shapes
    return [(round(3 * shape.center_x - 0.5), round(3 * shape.center_y - 0.5)) for shape in shapes]


def test_tidy_scenes_show_what_their_prompt_and_their_planted_fault_say():
    kinds = set()
    for number in range(300):
        example = sample_example(5, number, 0.5, tidy=True)
        judgement = judge_scene(example.prompt, example.scene, 48)
        assert judgement.faults == example.planted
        assert judge_image(example.prompt, render(example.scene, 48).image) == judgement
        kinds |= {fault.kind for fault in example.planted}
    assert kinds == {"color", "shape", "texture", "count", "relation"}


def test_objects_lie_in_the_order_in_which_they_are_named():
    assert _centers("a red circle and a blue square") == [(0, 1), (2, 1)]
    assert _centers("a ring, a triangle and a circle") == [(0, 1), (1, 1), (2, 1)]
    assert _centers("four green diamonds and two green triangles") == [(x, y) for y in (0, 2) for x in range(3)]


@pytest.mark.parametrize(("text", "centers"), [
    ("a red square left of a cyan ring", [(0, 1), (2, 1)]),
    ("a red square right of a cyan ring", [(2, 1), (0, 1)]),
    ("a red square above a cyan ring", [(1, 0), (1, 2)]),
    ("a red square below a cyan ring", [(1, 2), (1, 0)]),
    ("a checkered pink cross above a yellow cross and an orange cross", [(1, 0), (1, 2), (0, 0)]),
])
def test_a_relation_decides_the_places_of_its_objects(text, centers):
    assert _centers(text) == centers


def test_a_tidy_scene_depends_on_nothing_but_its_draft():
    draft = draft_of(parse_prompt("a red circle in front of a blue square"), np.random.default_rng(0))
    assert lay_out_tidily(draft) == lay_out_tidily(draft)


def test_more_objects_than_places_are_refused():
    objects = tuple(DraftObject(0, "circle", "red", "solid") for _ in range(8))
    with pytest.raises(ValueError, match="at most 7 objects, found 8"):
        lay_out_tidily(Draft(objects, None))
