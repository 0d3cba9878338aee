import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.objectives.flow_path import interpolate, velocity_error
from srum_jax.rewards.dual_likelihood import (
    likelihood,
    likelihood_bound_weights,
    reward_of_errors,
    strata,
    token_log_probs,
)
from srum_jax.rewards.flow_likelihood import flow_log_likelihood
from tests.golden import suder_case

RTOL = 1e-5


def test_the_likelihood_of_a_text_is_the_mean_over_its_counted_tokens():
    given, expected = suder_case("likelihood_length_normalised")
    log_probs = token_log_probs(jnp.asarray(given["logits"]), jnp.asarray(given["labels"]))
    found = likelihood(log_probs, given["mask"])
    np.testing.assert_allclose(log_probs, expected["token_logps"], rtol=RTOL)
    np.testing.assert_allclose(found.mean, expected["mean"], rtol=RTOL)
    np.testing.assert_allclose(found.total, expected["sum"], rtol=RTOL)
    assert found.tokens.tolist() == expected["tokens"].tolist()
    assert found.valid.tolist() == expected["valid"].tolist()
    np.testing.assert_allclose(likelihood(log_probs, given["mask_without_end"]).mean, expected["mean_without_end"],
                               rtol=RTOL)


def test_log_probabilities_stay_finite_for_extreme_logits():
    given, expected = suder_case("likelihood_extreme_logits")
    found = token_log_probs(jnp.asarray(given["logits"]), jnp.asarray(given["labels"]))
    np.testing.assert_allclose(found, expected["token_logps"], rtol=RTOL)


def test_dual_rewards_of_a_model_of_codes():
    given, expected = suder_case("dual_rewards_discrete")
    for reward, logits, tokens, best in (("R_U", "image_logits", "image_tokens", "best_caption"),
                                         ("R_G", "text_logits", "prompt_tokens", "best_image")):
        labels = jnp.broadcast_to(given[tokens], given[logits].shape[:-1])
        found = likelihood(token_log_probs(jnp.asarray(given[logits]), labels), np.ones(labels.shape, bool)).mean
        np.testing.assert_allclose(found, expected[reward], rtol=RTOL)
        assert int(jnp.argmax(found)) == expected[best]


def test_what_is_not_counted_may_be_anything():
    log_probs = jnp.array([[-1.0, -3.0, jnp.nan]])
    assert likelihood(log_probs, np.array([[1, 1, 0]])).mean.tolist() == [-2.0]


def test_dividing_by_the_length_does_not_change_the_order_in_a_group():
    log_probs = jax.random.normal(jax.random.key(0), (8, 5))
    mask = np.broadcast_to([1, 1, 1, 1, 0], (8, 5))  # a group has one input, and so one length
    found = likelihood(log_probs, mask)
    assert np.argsort(found.mean).tolist() == np.argsort(found.total).tolist()


def test_errors_of_a_flow_make_a_reward_whose_order_depends_on_the_weights():
    given, expected = suder_case("flow_reward_of_errors")
    times = given["times"]
    for name, weights in (("uniform", np.ones(4)), ("high", times >= 0.5), ("bound", likelihood_bound_weights(times))):
        found = reward_of_errors(jnp.asarray(given["errors"]), weights)
        np.testing.assert_allclose(found, expected[name], rtol=RTOL)
        assert int(jnp.argmax(found)) == expected[f"best_{name}"]


def test_a_caption_has_the_same_reward_alone_and_in_a_group():
    errors = jax.random.uniform(jax.random.key(1), (5, 8))
    group = reward_of_errors(errors, np.ones(8))
    alone = [float(reward_of_errors(errors[i : i + 1], np.ones(8))[0]) for i in range(5)]
    np.testing.assert_allclose(alone, group, rtol=1e-6)


def test_errors_of_velocity_noise_and_data_are_one_error():
    given, expected = suder_case("flow_errors")
    x0, eps, velocity = (jnp.asarray(given[name], jnp.float32) for name in ("x0", "eps", "velocity"))
    t = jnp.broadcast_to(jnp.asarray(given["t"], jnp.float32)[:, None], x0.shape[:2])
    x_t = interpolate(x0, eps, t)
    error = jnp.mean(velocity_error(velocity, x0, eps), axis=1)
    np.testing.assert_allclose(x_t, expected["x_t"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(error, expected["error"], rtol=1e-4)
    np.testing.assert_allclose((1 - t[:, 0]) ** 2 * error, expected["eps_error"], rtol=1e-4)
    np.testing.assert_allclose(t[:, 0] ** 2 * error, expected["x0_error"], rtol=1e-4)
    np.testing.assert_allclose(x_t - t[..., None] * velocity, expected["x0_hat"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(x_t + (1 - t[..., None]) * velocity, expected["eps_hat"], rtol=1e-4, atol=1e-6)


def test_each_stratum_of_the_times_has_one_draw():
    given, expected = suder_case("time_grid")
    low, high, draws = given["low"], given["high"], given["draws"]
    np.testing.assert_allclose(strata(low, high, draws), expected["middles"])
    np.testing.assert_allclose(strata(low, high, draws, given["offset"]), expected["offset"], rtol=1e-6)
    # Two draws of opposite noise in each of half as many strata have these times.
    np.testing.assert_allclose(np.repeat(strata(low, high, draws // 2), 2), expected["antithetic_times"])


@pytest.mark.parametrize(("arguments", "name"), [((0.5, 0.5, 4), "times"), ((-0.1, 1.0, 4), "times"),
                                                 ((0.0, 1.0, 0), "draws")])
def test_strata_that_cannot_be_are_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        strata(*arguments)


def test_the_likelihood_under_a_flow_is_exact_where_the_density_is_known():
    given, expected = suder_case("probability_flow_likelihood")
    variance = given["data_std"] ** 2

    def velocity(x, t):  # of normal data: every x_t is normal too
        return x * (t - (1 - t) * variance) / ((1 - t) ** 2 * variance + t**2)

    x0, probe = jnp.asarray(given["x0"], jnp.float32), jnp.array([1.0, -1.0, 1.0])
    for steps in (8, 32, 128):
        found, x1 = flow_log_likelihood(velocity, x0, probe, steps)
        np.testing.assert_allclose(found, expected[f"midpoint_{steps}"], rtol=RTOL)
    np.testing.assert_allclose(x1, expected["x1_midpoint_128"], rtol=RTOL)
    np.testing.assert_allclose(found, expected["exact"], rtol=1e-4)
    np.testing.assert_allclose(x1, expected["x1_exact"], rtol=1e-4)
