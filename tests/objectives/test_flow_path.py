import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.objectives.flow_path import interpolate, shift_timestep, timestep_from_logit, velocity_target


def test_the_stated_example_holds():
    latent, noise, time = jnp.array([[2.0]]), jnp.array([[-1.0]]), jnp.array([0.25])
    assert interpolate(latent, noise, time).item() == 1.25
    assert velocity_target(latent, noise).item() == -3.0


def test_the_velocity_is_the_derivative_of_the_path():
    latent, noise = jax.random.normal(jax.random.key(0), (2, 5, 3))
    _, slope = jax.jvp(lambda t: interpolate(latent, noise, t), (jnp.full(5, 0.4),), (jnp.ones(5),))
    np.testing.assert_allclose(slope, velocity_target(latent, noise), atol=1e-6)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.5, 4.0])
def test_shifting_keeps_the_ends_and_the_order(shift):
    time = shift_timestep(jnp.linspace(0, 1, 101), shift)
    assert time[0] == 0 and time[-1] == 1
    assert bool(jnp.all(jnp.diff(time) > 0))


def test_a_clean_image_has_time_zero_exactly_and_no_gradient_trouble():
    assert timestep_from_logit(jnp.array(-jnp.inf), 4.0) == 0.0
    assert timestep_from_logit(jnp.array(0.0), 3.0) == pytest.approx(0.75)


def test_times_stay_float32_when_the_path_is_bfloat16():
    x = interpolate(jnp.ones((1, 2), jnp.bfloat16), jnp.zeros((1, 2), jnp.bfloat16), jnp.array([0.1]))
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, 0.9, rtol=1e-6)
