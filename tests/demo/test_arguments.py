"""What the page is started with: an experiment's own words first, then what was typed."""

import pytest

from srum_jax.demo.arguments import read_arguments
from srum_jax.errors import BadInput
from srum_jax.families.bagel.config import BagelRows
from srum_jax.worlds.shapes.base import trained_base, trained_sam
from tests.families.janus_pro import tiny_checkpoint as tiny_janus


@pytest.fixture(scope="module")
def shipped():
    return read_arguments([])


def test_without_a_checkpoint_the_shipped_model_draws_and_judges_as_its_own_experiment_does(shipped):
    arguments, settings = shipped
    assert arguments.checkpoint == str(trained_base()) and settings.sam_model == str(trained_sam())
    assert (arguments.dtype, settings.sampler.num_timesteps, settings.sampler.guidance.text_scale) == ("float32", 25, 2)
    assert settings.judge.one_by_one and settings.judge.max_attempts == 1 and settings.max_share == 0.4
    assert settings.judge_templates["global"].text == "does the picture fit: $prompt"
    assert settings.rows.max_size == 48 and settings.objective.reference_coefficient == 0.5
    assert len(settings.examples) == 8 == len(set(settings.examples))


def test_the_page_is_seen_from_this_machine_alone_unless_told(shipped):
    assert shipped[0].host == "127.0.0.1"


def test_what_is_typed_wins_over_the_experiment():
    words = ["--dtype", "bfloat16", "--set", "sampler.num_timesteps=9", "--max-share", "1"]
    arguments, settings = read_arguments(words)
    assert (arguments.dtype, settings.sampler.num_timesteps, settings.max_share) == ("bfloat16", 9, 1)
    assert settings.sampler.guidance.text_scale == 2, "what was not typed stays as the experiment says"


def test_a_checkpoint_alone_takes_the_published_settings():
    arguments, settings = read_arguments(["--checkpoint", str(trained_base())])
    assert arguments.dtype == "bfloat16" and settings.sampler.num_timesteps == 50
    assert settings.rows is None and settings.examples == () and settings.sam_model is None


def test_an_experiment_says_how_its_pictures_are_judged_and_learnt():
    settings = read_arguments(["--checkpoint", str(trained_base()), "--experiment", "bagel_official"])[1]
    assert settings.objective.reward_map.variant == "official" and settings.judge.parser == "official"
    assert settings.max_candidates == 10 and settings.think and settings.rows == BagelRows(
        samples_per_row=2, images_per_row=2, text_capacity=128, latent_capacity=8192, stride=256)


@pytest.mark.parametrize(("words", "named"), [
    (["--against", "nowhere"], "nowhere"),
    (["--experiment", "bagel_cot"], "--checkpoint"),
    (["--set", "judge.mode=questions"], "judge.mode"),
    (["--checkpoint", str(trained_base()), "--provider", "sam"], "--sam-model"),
])
def test_what_cannot_be_used_is_named(words, named):
    with pytest.raises(BadInput, match=named):
        read_arguments(words)


def test_checkpoints_of_two_families_are_not_compared():
    with pytest.raises(BadInput, match=r"--against.*bagel.*janus_pro"):
        read_arguments(["--against", str(tiny_janus.shared())])
