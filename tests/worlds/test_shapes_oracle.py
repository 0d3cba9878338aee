"""The oracle: the same exact scores from the procedure and from pixels, and every planted fault is found."""

import dataclasses

import numpy as np
import pytest

from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.layout import draft_of, lay_out
from srum_jax.worlds.shapes.mistakes import MISTAKES, Fault, plant, possible_mistakes
from srum_jax.worlds.shapes.oracle import judge, judge_image, judge_scene
from srum_jax.worlds.shapes.prompts import parse_prompt, prompt_text, sample_prompt
from srum_jax.worlds.shapes.scene import CATEGORIES, Scene, Shape
from srum_jax.worlds.shapes.sight import SeenObject, Sight

SIZES = (32, 48, 64, 100)


def _rng(seed, stream=0):
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def _scene(seed, category=None):
    rng = _rng(seed, 1)
    prompt = sample_prompt(rng, category)
    return prompt, lay_out(draft_of(prompt, rng), rng)


def _shape(shape, color, x, y=0.5, side=0.3, texture="solid"):
    return Shape(shape, color, texture, x, y, side)


@pytest.mark.parametrize("category", CATEGORIES)
def test_faithful_drawings_score_one_everywhere(category):
    for seed in range(80):
        prompt, scene = _scene(seed, category)
        size = SIZES[seed % 4]
        judgement = judge_image(prompt_text(prompt), render(scene, size).image)
        assert judgement.correct and judgement.global_score == 1.0 and judgement.well_formed == 1.0
        assert all(region.score == 1.0 for region in judgement.regions)
        assert judgement == judge_scene(prompt, scene, size)
        assert len(judgement.regions) == prompt.num_objects


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_planted_fault_is_found_from_the_procedure_and_from_pixels(category):
    seen = set()
    for seed in range(80):
        rng = _rng(seed, 2)
        prompt = sample_prompt(rng, category)
        kinds = possible_mistakes(prompt)
        kind = kinds[seed % len(kinds)]
        draft, planted = plant(prompt, draft_of(prompt, rng), kind, rng)
        scene, size = lay_out(draft, rng), SIZES[seed % 4]
        from_procedure = judge_scene(prompt, scene, size)
        assert from_procedure.faults == planted
        assert judge_image(prompt_text(prompt), render(scene, size).image) == from_procedure
        assert from_procedure.global_score < 1.0
        seen.add(kind)
    assert seen >= {"count"} and seen <= set(MISTAKES)


def test_boxes_fit_the_drawn_pixels_exactly():
    scene = Scene((_shape("circle", "red", 0.3, 0.4, 0.25), _shape("cross", "blue", 0.7, 0.7, 0.31)))
    drawing = render(scene, 64)
    for number, box in enumerate(drawing.boxes):
        rows, columns = np.nonzero(drawing.owner == number)
        assert box == Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_drawing_is_deterministic_and_reacts_to_every_field():
    shape = _shape("square", "red", 0.4, 0.5, 0.4)
    image = render(Scene((shape,)), 64).image
    assert np.array_equal(image, render(Scene((shape,)), 64).image)
    for field, value in {
        "shape": "circle",
        "color": "blue",
        "texture": "striped",
        "center_x": 0.5,
        "center_y": 0.4,
        "side": 0.3,
    }.items():
        changed = dataclasses.replace(shape, **{field: value})
        assert not np.array_equal(image, render(Scene((changed,)), 64).image), field


def test_scores_of_a_wrong_color_by_hand():
    scene = Scene((_shape("circle", "green", 0.25), _shape("square", "blue", 0.75)))
    judgement = judge_scene("a red circle left of a blue square", scene, 64)
    assert [region.score for region in judgement.regions] == [-0.5, 1.0]
    assert judgement.global_score == -0.5  # one of two right: 2 * (1 / 2)^2 - 1
    assert judgement.faults == (Fault("color", 0, "red", "green"),)


def test_scores_of_a_wrong_relation_by_hand():
    scene = Scene((_shape("circle", "red", 0.75), _shape("square", "blue", 0.25)))
    judgement = judge_scene("a red circle left of a blue square", scene, 64)
    assert [region.score for region in judgement.regions] == [0.0, 0.0]
    assert judgement.global_score == -0.5  # 2 / 4 - 1
    assert judgement.faults == (Fault("relation", 0, "left of", "right of"),)


def test_scores_of_one_object_too_many_and_one_too_few_by_hand():
    three = Scene(tuple(_shape("ring", "red", 0.2 + 0.3 * n, side=0.22) for n in range(3)))
    crowded = judge_scene("two red rings", three, 64)
    assert [region.score for region in crowded.regions] == [0.0, 0.0, 0.0]
    assert crowded.global_score == pytest.approx(2 * (2 / 3) ** 2 - 1, abs=1e-6)
    sparse = judge_scene("four red rings", three, 64)
    assert [region.score for region in sparse.regions] == [1.0, 1.0, 1.0]
    assert sparse.global_score == 2 * (3 / 4) ** 2 - 1
    assert sparse.faults == (Fault("count", 0, "4", "3"),)


def test_something_not_asked_for_is_a_fault_without_a_phrase():
    scene = Scene((_shape("ring", "red", 0.2, side=0.25), _shape("cross", "blue", 0.7)))
    judgement = judge_scene("a red ring", scene, 64)
    assert sorted(region.score for region in judgement.regions) == [-1.0, 1.0]
    assert judgement.faults == (Fault("count", -1, "nothing else", "solid blue cross"),)


def test_an_empty_image_scores_minus_one():
    image = render(Scene(()), 64).image
    judgement = judge_image("a red circle and a blue square", image)
    assert judgement.global_score == -1.0 and judgement.regions == () and judgement.well_formed == 0.0


def test_mild_noise_does_not_change_the_judgement():
    for seed in range(20):
        prompt, scene = _scene(seed)
        image = render(scene, 64).image.astype(int)
        noisy = np.clip(image + _rng(seed, 3).integers(-10, 11, image.shape), 0, 255).astype(np.uint8)
        assert judge_image(prompt, noisy) == judge_scene(prompt, scene, 64)


def test_any_image_gets_finite_scores_and_noise_is_not_well_formed():
    for seed in range(5):
        image = _rng(seed, 4).integers(0, 256, (48, 40, 3)).astype(np.uint8)
        judgement = judge_image("two red circles", image)
        assert -1 <= judgement.global_score < 0 and judgement.well_formed < 0.5
        assert all(-1 <= region.score <= 1 and region.box.inside(40, 48) for region in judgement.regions)


def test_of_equally_good_matchings_the_one_with_the_right_relation_is_taken():
    objects = (
        SeenObject("circle", "blue", "solid", Box(2, 10, 12, 20)),
        SeenObject("circle", "blue", "solid", Box(40, 10, 50, 20)),
    )
    judgement = judge("a red circle right of a blue circle", Sight(objects))
    assert judgement.faults == (Fault("color", 0, "red", "blue"),)
    assert judgement.regions[1].phrase == 0


def test_an_object_behind_another_keeps_its_whole_box():
    scene = Scene((_shape("square", "blue", 0.45, 0.45, 0.44), _shape("circle", "red", 0.65, 0.65, 0.3)))
    judgement = judge_image("a red circle in front of a blue square", render(scene, 64).image)
    assert judgement.correct
    assert render(scene, 64).boxes[0] in [region.box for region in judgement.regions]


def test_a_corner_that_another_object_cuts_off_still_belongs_to_its_object():
    diamond = _shape("diamond", "blue", 0.3824, 0.4422, 0.4548)
    scene = Scene((diamond, _shape("triangle", "cyan", 0.5306, 0.5465, 0.3037)))
    judgement = judge_image("a blue diamond behind a cyan triangle", render(scene, 32).image)
    assert judgement == judge_scene("a blue diamond behind a cyan triangle", scene, 32)
    assert judgement.correct and judgement.well_formed == 1.0


def test_images_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="expected uint8"):
        judge_image("a red circle", np.zeros((8, 8), np.uint8))


def test_mistakes_that_a_prompt_cannot_have_are_refused():
    prompt = parse_prompt("two rings")
    with pytest.raises(ValueError, match="expected one of shape, count"):
        plant(prompt, draft_of(prompt, _rng(0)), "relation", _rng(0))
