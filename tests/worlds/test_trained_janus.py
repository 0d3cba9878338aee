"""The tiny Janus-Pro that ships with the package: whole, loadable, and able to do what its recipe says."""

import dataclasses
import json

import pytest

from experiments._tiny_bases.bases import BASES
from experiments._tiny_bases.measure import (
    caption_metrics,
    draw,
    judge_metrics,
    load_tiny,
    picture_metrics,
    reconstruction,
    validation_prompts,
)
from experiments._tiny_janus.base_files import trained_janus_config
from experiments._tiny_janus.settings import CodesSettings, JanusJointSettings, JanusJudgeSettings, PixelsSettings
from experiments.tiny_pretrain import PICTURES
from srum_jax.families.registry import recognise
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.worlds.shapes.base import RECIPE, check_trained_base, trained_janus
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.prompts import parse_prompt
from srum_jax.worlds.shapes.records import sample_example

BASE = BASES["janus"]
_LARGEST = 10e6  # bytes
_SMALL_SAMPLE = 0.15  # tolerance of shares: tests measure on fewer pictures than the recipe


@pytest.fixture(scope="module")
def pipeline():
    return load_tiny(trained_janus())


@pytest.fixture(scope="module")
def measured():
    return json.loads((trained_janus() / RECIPE).read_text())["measured"]


def test_the_shipped_janus_is_whole_small_and_of_the_sizes_that_it_is_made_with():
    check_trained_base(trained_janus())
    assert sum(path.stat().length for path in trained_janus().iterdir()) <= _LARGEST
    recipe = json.loads((trained_janus() / RECIPE).read_text())
    assert set(recipe["sha256"]) == {path.name for path in trained_janus().iterdir()} - {RECIPE}
    assert recognise(trained_janus()) == "janus_pro"
    assert JanusConfig.from_directory(trained_janus()) == trained_janus_config()


def test_its_recipe_is_what_the_command_does_without_further_arguments():
    recipe = json.loads((trained_janus() / RECIPE).read_text())
    first = {"seed": 0, "pictures": PICTURES["janus"]}  # the joint stage has another meaning of the second
    for name, settings in (("codes", CodesSettings()), ("pixels", PixelsSettings()), ("joint", JanusJointSettings()),
                           ("judge", JanusJudgeSettings())):
        assert recipe[name] == json.loads(json.dumps(first | dataclasses.asdict(settings)))
        assert recipe["steps_done"][name] == settings.steps


def test_its_figures_leave_something_to_gain(measured):
    """Below: nothing to select from. Above: nothing to learn by it."""
    held_out = measured["held_out_prompts"][f"guidance {BASE.guidance}"]
    assert 0.5 <= held_out["fit"] <= 0.75 and held_out["well_formed"] >= 0.8
    assert 0.7 <= measured["captions_of_tidy_pictures"]["right"] <= 0.85
    for judged in (measured["judge_own_pictures"], measured["judge_drawn_pictures"]):
        assert judged["auc"] >= 0.7 and judged["region_auc"] >= 0.6 and judged["object_named"] >= 0.8


def test_the_oracle_reads_pictures_out_of_codes_as_often_as_the_recipe_says(pipeline, measured):
    result = reconstruction(pipeline, BASE, 64)
    for field in ("same_judgement", "well_formed"):
        assert result[field] >= measured["reconstruction"][field] - _SMALL_SAMPLE


def test_a_picture_drawn_from_a_fixed_seed_is_well_formed_and_called_by_what_it_shows(pipeline):
    prompts = [parse_prompt("a red square and a yellow circle", "color")]
    pictures = draw(pipeline, prompts, BASE.sampler(BASE.guidance), seed=0)
    assert pictures[0].shape == (48, 48, 3)
    assert picture_metrics(prompts, pictures).well_formed == 1.0
    assert caption_metrics(pipeline, prompts, pictures).readable == 1.0


@pytest.mark.slow
def test_it_draws_judges_and_captions_as_the_recipe_says(pipeline, measured):
    prompts = validation_prompts(8, 80, held_out=True)
    found = picture_metrics(prompts, draw(pipeline, prompts, BASE.sampler(BASE.guidance)))
    assert abs(found.fit - measured["held_out_prompts"][f"guidance {BASE.guidance}"]["fit"]) <= _SMALL_SAMPLE
    examples = [sample_example(79, number, 0.5, held_out=True) for number in range(64)]
    pictures = [render(example.scene, 48).image for example in examples]
    judged = judge_metrics(pipeline, [example.prompt for example in examples], pictures)
    of_recipe = measured["judge_drawn_pictures"]
    assert judged.readable >= 0.95 and judged.auc >= of_recipe["auc"] - _SMALL_SAMPLE
    assert judged.region_auc >= of_recipe["region_auc"] - _SMALL_SAMPLE
