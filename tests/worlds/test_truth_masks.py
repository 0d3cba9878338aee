import numpy as np
import pytest

from experiments._tiny_bagel.varied_scenes import free_scene, varied_scene
from experiments._tiny_sam.truth_masks import BACKGROUND_OWNER, mask_box, truth_masks
from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes.drawing import BACKGROUND, INK, PALETTE, render
from srum_jax.worlds.shapes.scene import Scene, Shape

BACK = Shape("square", "red", "solid", 20 / 48, 20 / 48, 20 / 48)
FRONT = Shape("circle", "blue", "striped", 28 / 48, 28 / 48, 14 / 48)

HIDDEN = Scene((FRONT, Shape("square", "red", "solid", 24 / 48, 28 / 48, 20 / 48)))  # all but an edge of the circle


def test_masks_are_what_is_seen_of_each_object_and_the_background():
    drawing = render(Scene((BACK, FRONT)), 48)
    background, back, front = truth_masks(drawing)
    assert [region.owner for region in (background, back, front)] == [BACKGROUND_OWNER, 0, 1]
    assert (background.mask == np.all(drawing.image == BACKGROUND, axis=-1)).all()
    assert (back.mask == np.all(drawing.image == PALETTE["red"], axis=-1)).all()
    striped = np.all(drawing.image == PALETTE["blue"], axis=-1) | np.all(drawing.image == INK, axis=-1)
    assert (front.mask == striped).all()
    assert (background.mask.astype(int) + back.mask + front.mask == 1).all()


def test_a_box_is_the_smallest_around_what_is_seen():
    _, back, front = truth_masks(render(Scene((BACK, FRONT)), 48))
    assert back.box == Box(10, 10, 30, 30) and front.box == Box(21, 21, 35, 35)
    hidden = truth_masks(render(HIDDEN, 48), min_area=1)[1]
    assert hidden.owner == 0 and hidden.box == Box(34, 25, 35, 31) and hidden.mask.sum() == 6
    with pytest.raises(ValueError, match="at least one pixel"):
        mask_box(np.zeros((3, 4), bool))


def test_what_is_hardly_seen_is_no_region():
    assert [region.owner for region in truth_masks(render(HIDDEN, 48))] == [BACKGROUND_OWNER, 1]
    assert [region.owner for region in truth_masks(render(HIDDEN, 48), min_area=6)] == [BACKGROUND_OWNER, 0, 1]


def test_varied_scenes_depend_on_their_number_alone_and_are_drawn_whole():
    assert varied_scene(3, 5) == varied_scene(3, 5) != varied_scene(3, 6)
    held_out = varied_scene(3, 5, textured=0.0, overlapping=1.0, held_out=True)
    assert len(held_out.shapes) == 2 and {shape.texture for shape in held_out.shapes} == {"solid"}
    for number in range(40):
        scene = free_scene(np.random.default_rng(number))
        assert 1 <= len(scene.shapes) <= 7
        assert len(truth_masks(render(scene, 48))) == len(scene.shapes) + 1
