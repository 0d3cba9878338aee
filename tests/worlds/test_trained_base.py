"""The base that ships with the package: whole, loadable, and able to do what its recipe says."""

import json
import shutil

import jax
import pytest

from experiments._tiny_bagel.base_files import trained_base_config
from experiments._tiny_bases.bases import BASES
from experiments._tiny_bases.measure import (
    draw,
    judge_metrics,
    picture_metrics,
    reconstruction,
    validation_prompts,
)
from srum_jax.errors import BadInput
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.pipeline import load
from srum_jax.worlds.shapes.base import RECIPE, check_trained_base, trained_base
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.prompts import parse_prompt
from srum_jax.worlds.shapes.records import sample_example

_LARGEST = 20e6  # bytes
_SMALL_SAMPLE = 0.15  # tolerance of shares: tests measure on fewer pictures than the recipe
_SEED = 0
BASE = BASES["bagel"]
SAMPLER = BASE.sampler(BASE.guidance)


@pytest.fixture(scope="module")
def pipeline():
    return load(trained_base(), dtype="float32", attention="dense", devices=jax.local_devices()[:1],
                         mesh=MeshConfig(data=1, fsdp=1))


@pytest.fixture(scope="module")
def measured():
    return json.loads((trained_base() / RECIPE).read_text())["measured"]


def test_the_shipped_base_is_whole_and_small():
    check_trained_base(trained_base())
    assert sum(path.stat().length for path in trained_base().iterdir()) <= _LARGEST
    recipe = json.loads((trained_base() / RECIPE).read_text())
    assert set(recipe["sha256"]) == {path.name for path in trained_base().iterdir()} - {RECIPE}
    vae = BagelConfig.from_directory(trained_base()).vae
    assert BagelConfig.from_directory(trained_base()) == trained_base_config(vae.scale_factor, vae.shift_factor)


def test_a_damaged_copy_is_found(tmp_path):
    copy = tmp_path / "base"
    shutil.copytree(trained_base(), copy)
    damaged = bytearray((copy / "ae.safetensors").read_bytes())
    damaged[-1] ^= 1
    (copy / "ae.safetensors").write_bytes(damaged)
    (copy / "config.json").unlink()
    with pytest.raises(BadInput, match=r"ae\.safetensors: expected sha256.*; config\.json: .* found no such file"):
        check_trained_base(copy)


def test_the_oracle_reads_reconstructed_pictures_as_often_as_the_recipe_says(pipeline, measured):
    result = reconstruction(pipeline, BASE, 64)
    assert result["same_judgement"] >= measured["reconstruction"]["same_judgement"] - _SMALL_SAMPLE
    assert result["well_formed"] >= measured["reconstruction"]["well_formed"] - _SMALL_SAMPLE


def test_a_picture_drawn_from_a_fixed_seed_is_well_formed(pipeline):
    prompts = [parse_prompt("a red square and a yellow circle", "color")]
    pictures = draw(pipeline, prompts, SAMPLER, seed=_SEED)
    assert pictures[0].shape == (48, 48, 3)
    assert picture_metrics(prompts, pictures).well_formed == 1.0


@pytest.mark.slow
def test_it_draws_crisply_and_does_not_always_draw_what_was_asked_for(pipeline, measured):
    prompts = validation_prompts(8, 80, held_out=True)
    found, promised = picture_metrics(prompts, draw(pipeline, prompts, SAMPLER)), measured["held_out_prompts"]
    promised = promised[f"guidance {BASE.guidance}"]
    assert found.well_formed >= 0.9 and abs(found.well_formed - promised["well_formed"]) <= _SMALL_SAMPLE
    assert abs(found.fit - promised["fit"]) <= _SMALL_SAMPLE


@pytest.mark.slow
def test_the_judge_is_as_good_as_the_recipe_says(pipeline, measured):
    examples = [sample_example(79, number, 0.5, held_out=True) for number in range(64)]
    pictures = [render(example.scene, 48).image for example in examples]
    metrics = judge_metrics(pipeline, [example.prompt for example in examples], pictures, with_regions=False)
    assert metrics.readable >= 0.95
    assert metrics.auc >= measured["judge_drawn_pictures"]["auc"] - _SMALL_SAMPLE
