import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.families.bagel.conversation import Conversation
from srum_jax.families.bagel.flow_sampling import LatentLayout, sample_latents
from srum_jax.families.bagel.programs import SAMPLE_LATENTS
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.models.compute import ComputeConfig
from tests.families.bagel.small_pipeline import random_model, small_pipeline

COMPUTE = ComputeConfig(remat="none")
LAYOUT = LatentLayout(jnp.array([[0, 1, 8, 9]] * 2), jnp.array([4, 2]))
NOISE = np.random.default_rng(0).normal(size=(2, 4, 16)).astype(np.float32)


def contexts():
    conversation = Conversation(small_pipeline().generator.programs, 2, 32, image_guidance=True)
    conversation.add_text([[5, 6, 7], [8]])
    return conversation.branches(3)


def sampled(sampler, noise=NOISE):
    model = nnx.merge(*random_model())
    run = jax.jit(lambda contexts, noise: sample_latents(model, contexts, noise, LAYOUT, sampler, COMPUTE, trace=True))
    return run(contexts(), noise)


@pytest.mark.slow
def test_guidance_runs_where_low_is_below_t_and_t_up_to_high():
    sampler = FlowSampler(6, 1.0, Guidance(2.0, 1.0, (0.4, 0.8)))  # t = 1, 0.8, 0.6, 0.4, 0.2
    _, stretches = sampled(sampler)
    guided = {round(float(t), 3): "v_text" in stretch for stretch in stretches for t in stretch["t"]}
    assert guided == {1.0: False, 0.8: True, 0.6: True, 0.4: False, 0.2: False}


@pytest.mark.slow
def test_every_branch_is_the_plain_prediction_of_its_own_context():
    programs, told = small_pipeline().generator.programs, []
    for texts in ([[5, 6, 7], [8]], [[9], [10, 11]], [[12, 13], []]):
        conversation = Conversation(programs, 2, 32, image_guidance=False)
        conversation.add_text(texts)
        told.append(conversation.everything)
    model = nnx.merge(*random_model())
    run = jax.jit(lambda contexts, sampler: sample_latents(model, contexts, NOISE, LAYOUT, sampler, COMPUTE, True)[1],
                  static_argnums=1)
    (guided,) = run(told, FlowSampler(2, guidance=Guidance(2.0, 1.5, (0.0, 1.0))))
    found = [guided[name][0] for name in ("v_cond", "v_text", "v_img")]
    for context, velocity in zip(told, found, strict=True):
        (plain,) = run([context], FlowSampler(2, guidance=Guidance(1.0)))
        for row, count in enumerate(LAYOUT.num_tokens):
            np.testing.assert_allclose(velocity[row, :count], plain["v_cond"][0, row, :count], atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-2 and np.abs(found[1] - found[2]).max() > 1e-2


@pytest.mark.slow
def test_steps_follow_the_velocity():
    x, stretches = sampled(FlowSampler(4, 3.0, Guidance(2.0, 1.5, (0.0, 1.0))))
    (stretch,) = stretches
    t = np.append(stretch["t"], 0.0)
    for i in range(3):
        after = stretch["x_t"][i + 1] if i < 2 else x
        np.testing.assert_allclose(after, stretch["x_t"][i] - stretch["v"][i] * (t[i] - t[i + 1]), atol=1e-6)


def test_padding_stays_zero_and_changes_nothing():
    x, _ = sampled(FlowSampler(4))
    assert (np.asarray(x[1, 2:]) == 0).all() and (np.asarray(x[0]) != 0).all()
    other, _ = sampled(FlowSampler(4), NOISE + 9 * (1 - np.asarray(LAYOUT.real))[..., None].astype(np.float32))
    np.testing.assert_array_equal(x, other)


def test_scales_of_one_are_the_conditional_prediction_alone():
    plain, _ = sampled(FlowSampler(4, guidance=Guidance(1.0, 3.0)))
    off, _ = sampled(FlowSampler(4, guidance=Guidance(4.0, 3.0, (0.0, 0.0))))
    np.testing.assert_array_equal(plain, off)


@pytest.mark.parametrize("num_timesteps", [3, 50])
def test_the_whole_trajectory_is_one_program_without_a_word_to_the_host(num_timesteps):
    programs = small_pipeline().generator.programs
    conversation = Conversation(programs, 2, 32, image_guidance=False)
    conversation.add_text([[5, 6, 7], [8]])
    keys = jax.random.split(jax.random.key(0), 2)
    lowered = programs.lower(SAMPLE_LATENTS, conversation.branches(2), keys, LAYOUT, FlowSampler(num_timesteps))
    # As many layers' worth of program for 3 times as for 50: one scan for guided and one for unguided steps.
    text = lowered.as_text()
    assert "callback" not in text and "infeed" not in text and "outfeed" not in text
    assert text.count("stablehlo.while") <= 5
