"""BLIP3o's flow over picture features on a tiny model of random weights; its numbers are compared in tests/golden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.families.blip3o.flow_sampling import draw_features, velocities
from srum_jax.families.blip3o.sampler import FeatureSampler
from srum_jax.models.blip3o.dit import DiT
from srum_jax.models.blip3o.eva import EvaTower
from srum_jax.models.blip3o.flow import drawn_sigma, sampling_sigmas, sampling_timesteps, train_sigmas
from srum_jax.models.compute import ComputeConfig
from tests.models.filled import filled
from tests.models.tiny_blip3o import tiny_config

COMPUTE = ComputeConfig()


@pytest.fixture(scope="module")
def dit() -> DiT:
    return filled(lambda: DiT(tiny_config().dit, rngs=nnx.Rngs(0)))


@nnx.jit
def velocity(dit, features, timestep, condition):
    return dit(features, timestep, condition, COMPUTE)


def inputs(config):
    keys = jax.random.split(jax.random.key(0), 2)
    features = jax.random.normal(keys[0], (2, config.grid, config.grid, config.channels))
    return features, jnp.asarray([300.0, 700.0]), jax.random.normal(keys[1], (2, 4, config.condition_width))


def test_training_draws_from_a_thousand_times_and_never_a_clean_picture():
    assert train_sigmas()[[0, 1, 500, 999]] == pytest.approx([1.0, 0.999, 0.5, 0.001], abs=1e-7)
    uniform = jnp.asarray([0.0, 0.0009, 0.0011, 0.5, 0.99999994])
    assert drawn_sigma(uniform).tolist() == pytest.approx([1.0, 1.0, 0.999, 0.5, 0.001], abs=1e-7)
    assert drawn_sigma(jnp.asarray([0.5]), shift=4.0).tolist() == pytest.approx([0.8])


def test_the_network_is_told_times_cut_off_after_a_product_in_float32():
    sigmas = sampling_sigmas(30)
    assert sigmas.dtype == np.float32 and sigmas[-1] == 0 and len(sigmas) == 31
    assert sampling_timesteps(sigmas).tolist() == [
        1000, 966, 933, 900, 866, 833, 800, 766, 733, 700, 666, 633, 600, 566, 533, 500, 466, 433, 400, 366, 333, 300,
        266, 233, 200, 166, 133, 100, 66, 33]  # in float64 two of them were 199 and 99


def test_the_order_of_the_conditions_tokens_means_nothing_and_that_of_the_features_does(dit):
    features, timestep, condition = inputs(dit.config)
    found = velocity(dit, features, timestep, condition)
    np.testing.assert_allclose(velocity(dit, features, timestep, condition[:, ::-1]), found, rtol=1e-4, atol=1e-4)
    turned = velocity(dit, features.swapaxes(1, 2), timestep, condition).swapaxes(1, 2)
    assert jnp.max(jnp.abs(turned - found)) > 1e-2


def test_without_a_condition_the_network_sees_zeros_before_any_projection(dit):
    features, timestep, condition = inputs(dit.config)
    without, conditioned = velocities(dit, features, timestep[0], condition, COMPUTE)
    times = jnp.full(2, timestep[0])
    np.testing.assert_allclose(without, velocity(dit, features, times, 0 * condition), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(conditioned, velocity(dit, features, times, condition), rtol=1e-4, atol=1e-4)
    assert jnp.max(jnp.abs(without - conditioned)) > 1e-2


def test_one_step_goes_all_the_way_along_the_guided_velocity(dit):
    noise, _, condition = inputs(dit.config)
    without, conditioned = velocities(dit, noise, jnp.asarray(1000.0), condition, COMPUTE)
    drawn = draw_features(dit, noise, condition, FeatureSampler(num_steps=1, guidance=3.0), COMPUTE)
    np.testing.assert_allclose(drawn, noise - (3 * conditioned - 2 * without), rtol=1e-3, atol=1e-3)


def test_pooled_features_are_means_of_squares_of_patches():
    config = tiny_config().eva
    tower = nnx.eval_shape(lambda: EvaTower(config, rngs=nnx.Rngs(0)))
    number = jnp.broadcast_to(jnp.arange(16.0)[None, :, None], (1, 16, config.width))  # 4 x 4 patches, row by row
    assert tower.pooled(number)[0, :, :, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
