import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.objectives.policy_gradient import clipped_surrogate
from srum_jax.objectives.stochastic_flow import coefficients_preserving_step, stochastic_step
from tests.golden import suder_case


@pytest.mark.parametrize("case", ["flow_grpo_step", "flow_grpo_first_step"])
def test_a_random_step_has_a_density_a_ratio_and_a_distance_from_the_reference(case):
    given, expected = suder_case(case)
    x, noise, *velocities = (jnp.asarray(given[name], jnp.float32) for name in
                             ("x", "noise", "v_old", "v_new", "v_ref"))

    def step(velocity):
        return stochastic_step(x, velocity, given["t"], given["t_next"], noise_level=given["noise_level"],
                               cap=given["cap_for_t_1"])

    old, new, reference = map(step, velocities)
    following = old.sample(noise)
    np.testing.assert_allclose(old.std, expected["std"], rtol=1e-6)
    np.testing.assert_allclose(old.mean, expected["mean_old"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(following, expected["x_next"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new.mean, expected["mean_new"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(old.log_prob(following), expected["logp_old_mean"], rtol=1e-4)
    np.testing.assert_allclose(new.log_prob(following), expected["logp_new_mean"], rtol=1e-4)
    np.testing.assert_allclose(new.log_prob(following) * x.shape[1], expected["logp_new_sum"], rtol=1e-4)
    advantage = jnp.asarray(given["advantage"], jnp.float32)
    surrogate = clipped_surrogate(new.log_prob(following), old.log_prob(following), advantage, given["epsilon"],
                                  given["epsilon"])
    np.testing.assert_allclose(surrogate.ratio, expected["ratio_mean"], rtol=1e-5)
    np.testing.assert_allclose(surrogate.ratio ** x.shape[1], expected["ratio_sum"], rtol=1e-5)
    np.testing.assert_allclose(surrogate.loss, expected["loss"], rtol=1e-5)
    # The worked example calls a step clipped where that takes its gradient away.
    assert (surrogate.clipped_low | surrogate.clipped_high).tolist() == expected["clipped"].tolist()
    slope = jax.grad(lambda v: step(v).log_prob(following).sum())(velocities[1])
    np.testing.assert_allclose(slope, expected["d_logp_mean_d_v_new"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new.divergence(reference), expected["kl_per_value"], rtol=1e-3)
    squares = jnp.square(velocities[1] - velocities[2]).mean(axis=-1)
    np.testing.assert_allclose(squares, expected["velocity_penalty"], rtol=1e-4)
    dt, t, s = given["t"] - given["t_next"], given["t"], expected["sigma"]
    np.testing.assert_allclose(dt / 2 * (s * (1 - t) / (2 * t) + 1 / s) ** 2 * squares, expected["kl_from_velocities"],
                               rtol=1e-4)


def test_a_step_may_keep_the_noise_of_the_marginal():
    given, expected = suder_case("coefficients_preserving_step")
    x, velocity, noise = (jnp.asarray(given[name], jnp.float32) for name in ("x", "v", "noise"))
    found = coefficients_preserving_step(x, velocity, given["t"], given["t_next"], noise_level=given["noise_level"])
    np.testing.assert_allclose(found.std, expected["std"], rtol=1e-6)
    np.testing.assert_allclose(found.mean, expected["mean"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sample(noise), expected["x_next"], rtol=1e-4, atol=1e-6)
    still = coefficients_preserving_step(x, velocity, given["t"], given["t_next"], noise_level=0.0)
    np.testing.assert_allclose(still.mean, expected["mean_at_level_0"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(still.mean, expected["euler"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(still.mean, x + velocity * (given["t_next"] - given["t"]), rtol=1e-4, atol=1e-6)
