import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srum_jax.rewards.boxes import Box, official_boxes, parse_coordinates
from srum_jax.rewards.reward_map import RewardMapConfig, RewardMapError, pixel_map, reward_map
from tests.golden import golden_json, golden_tensors, model_cases

PAPER, OFFICIAL = RewardMapConfig.paper(), RewardMapConfig.official()


def vectors():
    return golden_json("reward_stage_vectors.json")["reward_maps"]


@st.composite
def scenes(draw):
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    grid = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    corner = st.integers(-8, 48)
    boxes = draw(st.lists(st.tuples(st.tuples(corner, corner, corner, corner), st.floats(-1, 1)), max_size=6))
    return [(Box(*box), score) for box, score in boxes], width, height, grid


configs = st.sampled_from(
    [RewardMapConfig(overlap=rule, edge=edge) for rule in ("smallest", "max", "last", "min", "mean")
     for edge in ("half_open", "legacy")] + [OFFICIAL, RewardMapConfig.official(edge="half_open")])


def half_open(config):
    return RewardMapConfig(**{**vars(config), "edge": "half_open"})


def shortened(regions, config):
    if config.edge_rule != "legacy":
        return regions
    return [(Box(b.x0, b.y0, b.x1 - 1, b.y1 - 1), s) for b, s in regions]


@settings(max_examples=150, deadline=None)
@given(scenes(), configs)
def test_painting_only_the_pixels_that_are_read_equals_resizing_the_whole_map(scene, config):
    regions, width, height, grid = scene
    full = pixel_map(shortened(regions, config), width=width, height=height, config=config).astype(np.float64)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(full)[None, None], size=grid, mode="bilinear", align_corners=False)[0, 0].numpy()
    found = reward_map(regions, 0.3, width=width, height=height, grid=grid, config=config)
    np.testing.assert_allclose(found.R, expected, atol=1e-6)
    assert found.alpha == pytest.approx(0.65)


@settings(max_examples=50, deadline=None)
@given(scenes())
def test_area_resize_equals_the_mean_of_each_cell(scene):
    regions, width, height, (rows, columns) = scene
    width, height = columns * 5, rows * 3
    config = RewardMapConfig(resize="area")
    full = pixel_map(regions, width=width, height=height, config=config)
    expected = full.reshape(rows, 3, columns, 5).mean(axis=(1, 3))
    found = reward_map(regions, 0.0, width=width, height=height, grid=(rows, columns), config=config)
    np.testing.assert_allclose(found.R, expected, atol=1e-6)


def paint_slowly(regions, width, height, rule):
    """One pixel at a time, straight from the definition."""
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            inside = [(b.clip(width, height).area, k, s) for k, (b, s) in enumerate(regions)
                      if b.x0 <= x < b.x1 and b.y0 <= y < b.y1]
            if inside:
                scores = [s for _, _, s in inside]
                out[y, x] = {"smallest": min(inside)[2], "last": scores[-1], "max": max(scores), "min": min(scores),
                             "mean": sum(scores) / len(scores)}[rule]
    return out


@settings(max_examples=40, deadline=None)
@given(scenes(), st.sampled_from(["smallest", "max", "last", "min", "mean"]))
def test_overlap_rules_are_what_they_say(scene, rule):
    regions, width, height, _ = scene
    width, height = min(width, 12), min(height, 12)
    found = pixel_map(regions, width=width, height=height, config=RewardMapConfig(overlap=rule))
    np.testing.assert_allclose(found, paint_slowly(regions, width, height, rule), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(scenes(), st.floats(-1, 1))
def test_official_weights_are_in_0_to_1_and_ignore_negative_scores(scene, score):
    regions, width, height, grid = scene
    found = reward_map(regions, score, width=width, height=height, grid=grid, config=OFFICIAL)
    assert 0 <= found.weight.min() and found.weight.max() <= 1
    positive = [(box, max(value, 0.0)) for box, value in regions]
    np.testing.assert_array_equal(
        found.R, reward_map(positive, score, width=width, height=height, grid=grid, config=OFFICIAL).R)


@settings(max_examples=30, deadline=None)
@given(scenes())
def test_paper_weight_changes_sign_with_the_score_of_one_region(scene):
    regions, width, height, grid = scene
    for region in regions[:1]:
        plus = reward_map([region], 0.5, width=width, height=height, grid=grid, config=PAPER)
        minus = reward_map([(region[0], -region[1])], 0.5, width=width, height=height, grid=grid, config=PAPER)
        np.testing.assert_array_equal(plus.weight, -minus.weight)


def test_maps_and_grids_of_the_reference_are_reproduced():
    tensors = golden_tensors("bagel/rewards/reward_maps.safetensors")
    config = RewardMapConfig.official(edge="half_open")
    count = 0
    for case in golden_json("bagel/rewards/reward_maps.json"):
        width, height = case["image_size_wh"]
        if "raises" in case:
            with pytest.raises(TypeError, match="score"):
                official_boxes(case["regions"])
            continue
        regions, g = official_boxes(case["regions"]), case["global_score"]
        full = pixel_map(regions, width=width, height=height, config=config) * np.float32((g + 1) / 2)
        np.testing.assert_allclose(full, tensors[f"map.{case['name']}"], atol=1e-6)
        for h, w in case["grids_hw"]:
            found = reward_map(regions, g, width=width, height=height, grid=(h, w), config=config)
            np.testing.assert_allclose(found.weight, tensors[f"grid.{case['name']}.{h}x{w}"], atol=1e-6)
            count += 1
    assert count >= 80


@pytest.mark.parametrize("folder", model_cases("bagel"))
@pytest.mark.parametrize("kind", ["mixed", "t2i"])
def test_maps_of_the_training_cases_are_reproduced(folder, kind):
    tensors = golden_tensors(folder / f"train_{kind}.safetensors")
    for number, case in enumerate(golden_json(folder / f"train_{kind}_reward01.json")):
        width, height = case["size_wh"]
        regions = official_boxes(case["regions"])
        alpha = np.float32((case["global_score"] + 1) / 2)
        found = pixel_map(regions, width=width, height=height, config=OFFICIAL) * alpha
        np.testing.assert_allclose(found, tensors[f"in.reward01.{number}"], atol=1e-6)


def test_worked_examples_of_the_specification():
    for case in vectors():
        regions = [(Box(*box), s) for box, s in zip(case["boxes_half_open_xyxy"], case["scores"], strict=True)]
        size = {"width": case["width"], "height": case["height"],
                "grid": (case["latent_height"], case["latent_width"])}
        official = reward_map(regions, case["global_score"], config=OFFICIAL, **size)
        assert official.alpha == pytest.approx(case["alpha"])
        if "official_weight" in case:
            np.testing.assert_allclose(official.weight, case["official_weight"], atol=1e-6)
        else:
            assert official.weight.mean() == pytest.approx(case["official_mean_latent"], abs=1e-6)
            values, counts = np.unique(official.weight.astype(float).round(6), return_counts=True)
            assert case["official_latent_cells"] == {str(v): c for v, c in zip(values, counts, strict=True)}
        for rule in ("smallest", "max", "min"):
            found = reward_map(regions, case["global_score"], config=RewardMapConfig(overlap=rule), **size)
            if f"paper_R_{rule}" in case:
                np.testing.assert_allclose(found.R, case[f"paper_R_{rule}"], atol=1e-6)
            else:
                assert found.R.mean() == pytest.approx(case[f"paper_R_{rule}_mean_latent"], abs=1e-6)


def test_global_and_local_parts_can_be_switched_off():
    regions, size = [(Box(0, 0, 8, 8), -0.5)], {"width": 16, "height": 16, "grid": (2, 2)}
    assert reward_map(regions, 0.2, config=RewardMapConfig(use_global=False), **size).alpha == 1
    only_global = reward_map(regions, 0.2, config=RewardMapConfig(use_local=False), **size)
    np.testing.assert_allclose(only_global.weight, 0.6, atol=1e-6)


@pytest.mark.parametrize(("change", "weight"), [
    ({}, [[0.3375, 0.3375, 0.3, 0], [-0.225, -0.225, 0.075, 0.15]]),
    ({"use_global": False}, [[0.45, 0.45, 0.4, 0], [-0.3, -0.3, 0.1, 0.2]]),
    ({"use_global": False, "fixed_alpha": 0.5}, [[0.225, 0.225, 0.2, 0], [-0.15, -0.15, 0.05, 0.1]]),
    # Of the pixels around the first centre three are 1 and one is 0; the third cell is half covered.
    ({"binarize": "region"}, [[0.5625, 0.5625, 0.375, 0], [0, 0, 0.375, 0.75]]),
    ({"use_local": False}, [[0.75] * 4] * 2),
])
def test_each_ablation_changes_the_weights_of_the_small_map_as_it_says(change, weight):
    regions = [(Box(0, 0, 40, 16), 0.8), (Box(8, 8, 24, 32), -0.6), (Box(40, 16, 64, 32), 0.2)]
    found = reward_map(regions, 0.5, width=64, height=32, grid=(2, 4), config=RewardMapConfig.paper(**change))
    np.testing.assert_allclose(found.weight, weight, atol=1e-6)


def test_binary_rewards_are_0_and_1():
    regions = [(Box(0, 0, 8, 16), 0.1), (Box(8, 0, 16, 16), -0.9)]
    size = {"width": 16, "height": 16, "grid": (1, 2)}
    found = reward_map(regions, 1.0, config=RewardMapConfig(binarize="region"), **size)
    np.testing.assert_array_equal(found.R, [[1, 0]])
    official = reward_map(regions, 1.0, provider="sample", config=RewardMapConfig.official(binarize="region"), **size)
    np.testing.assert_array_equal(official.R, [[1, 0.5]])


def test_absent_global_score_is_0_for_the_authors_and_an_error_for_the_paper():
    size = {"width": 16, "height": 16, "grid": (2, 2)}
    assert reward_map([], None, config=OFFICIAL, **size).alpha == 0.5
    with pytest.raises(RewardMapError, match="absent"):
        reward_map([], None, config=PAPER, **size)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(RewardMapError, match="finite"):
        reward_map([(Box(0, 0, 4, 4), float("nan"))], 0.0, width=8, height=8, grid=(1, 1), config=PAPER)


def test_legacy_edges_shorten_only_boxes_from_inclusive_corners():
    size = {"width": 16, "height": 16, "grid": (16, 16), "config": OFFICIAL}
    region = [(Box(0, 0, 16, 16), 1.0)]
    assert reward_map(region, 1.0, provider="sam", **size).R[:, -1].max() == 0.5
    assert reward_map(region, 1.0, provider="sample", **size).R.min() == 1.0


@pytest.mark.parametrize("change", [{"variant": "signed"}, {"overlap": "first"}, {"edge": "round"}, {"resize": "cubic"},
                                    {"binarize": "all"}, {"box_space": "latent"},
                                    {"variant": "official", "overlap": "smallest"}])
def test_unknown_settings_are_refused(change):
    with pytest.raises(RewardMapError, match="reward_map"):
        RewardMapConfig(**change)


@pytest.mark.parametrize("value, expected", [
    ([2.9, -0.5, 10.99, 12], (2, 0, 10, 12)), (["2", "3", "12", "14"], (2, 3, 12, 14)), (["2.5", 3, 4, 5], None),
    ([1, 2, 3], None), (None, None), ("1,2,3,4", None), ([1, None, 9, 9], None), ([float("nan"), 0, 1, 1], None),
    ([1, 2, 9, 9, 3], None)])
def test_coordinates_are_read_as_the_authors_read_them(value, expected):
    assert parse_coordinates(value) == expected


def test_of_equal_areas_the_lower_number_wins():
    regions = [(Box(0, 0, 4, 4), 0.5), (Box(2, 0, 6, 4), -0.5)]
    assert pixel_map(regions, width=6, height=4, config=RewardMapConfig())[0].tolist() == [0.5] * 4 + [-0.5] * 2
