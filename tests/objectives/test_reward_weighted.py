import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.objectives.config import ObjectiveConfig
from srum_jax.objectives.reward_weighted import TokenErrors, reward_weight, reward_weighted_terms, velocity_errors
from srum_jax.objectives.weighted_sum import WeightedSum


def loss(errors, alpha, reward_map, mask, config):
    reward, reference = reward_weighted_terms(errors, alpha, reward_map, mask, config)
    return reward.mean() + config.reference_coefficient * reference.mean()


def example(rows=3, tokens=7, seed=0):
    keys = jax.random.split(jax.random.key(seed), 7)
    v, latent, reference, noise = (jax.random.normal(k, (rows, tokens, 4)) for k in keys[:4])
    alpha = jax.random.uniform(keys[4], (rows, tokens))
    reward_map = jax.random.uniform(keys[5], (rows, tokens), minval=-1.0)
    mask = jax.random.bernoulli(keys[6], 0.7, (rows, tokens))
    return velocity_errors(v, latent, reference, noise), alpha, reward_map, mask, (v, latent, reference, noise)


def test_the_loss_is_the_formula_of_the_paper():
    errors, alpha, reward_map, mask, (v, latent, reference, noise) = example()
    config = ObjectiveConfig(reference_coefficient=0.5)
    keep = np.asarray(mask)
    first = (np.asarray(alpha * reward_map)[..., None] * np.square(v - (noise - latent)))[keep].mean()
    second = np.square(v - (noise - reference))[keep].mean()
    np.testing.assert_allclose(loss(errors, alpha, reward_map, mask, config), first + 0.5 * second, rtol=1e-6)


def test_plain_fine_tuning_and_no_reference_are_settings_of_the_same_objective():
    errors, alpha, reward_map, mask, _ = example()
    keep = np.asarray(mask)
    plain = ObjectiveConfig(reward_coefficient=0.0, reference_coefficient=1.0)
    np.testing.assert_allclose(
        loss(errors, alpha, reward_map, mask, plain), np.asarray(errors.reference)[keep].mean(), rtol=1e-6)
    alone = ObjectiveConfig(reference_coefficient=0.0)
    np.testing.assert_allclose(
        loss(errors, alpha, reward_map, mask, alone),
        np.asarray(alpha * reward_map * errors.image)[keep].mean(), rtol=1e-6)


def test_what_is_masked_out_may_be_anything():
    errors, alpha, reward_map, mask, _ = example()
    poisoned = TokenErrors(*(jnp.where(mask, x, jnp.nan) for x in (errors.image, errors.reference)))
    config = ObjectiveConfig()
    value, gradient = jax.value_and_grad(lambda e: loss(e, alpha, reward_map, mask, config))(poisoned)
    np.testing.assert_allclose(value, loss(errors, alpha, reward_map, mask, config), rtol=1e-6)
    assert np.all(np.asarray(gradient.image)[~np.asarray(mask)] == 0)


def test_the_floor_bounds_the_sum_of_both_factors_and_nothing_else():
    alpha, reward_map = jnp.ones((1, 3)), jnp.array([[-1.0, -0.2, 0.9]])
    free = ObjectiveConfig(reference_coefficient=0.5)
    floored = ObjectiveConfig(reference_coefficient=0.5, factor_floor=0.0)
    np.testing.assert_allclose(reward_weight(alpha, reward_map, free), reward_map)
    np.testing.assert_allclose(reward_weight(alpha, reward_map, floored), [[-0.5, -0.2, 0.9]])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 2**31 - 1))
def test_the_mean_of_a_batch_does_not_depend_on_how_it_is_split(sizes, seed):
    draws = np.random.default_rng(seed)
    values = [draws.normal(size=n).astype(np.float32) for n in sizes]
    weights = [draws.integers(0, 3, n).astype(np.float32) for n in sizes]
    parts = [WeightedSum.of(jnp.asarray(v), jnp.asarray(w)) for v, w in zip(values, weights, strict=True)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    whole = WeightedSum.of(jnp.concatenate(values), jnp.concatenate(weights))
    np.testing.assert_allclose(merged.mean(), whole.mean(), atol=1e-5)


def test_the_mean_of_nothing_is_zero():
    assert WeightedSum.of(jnp.array([jnp.nan]), jnp.array([0.0])).mean() == 0


@pytest.mark.parametrize("field", ["reward_coefficient", "reference_coefficient", "text_coefficient"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_coefficient_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=f"objective.{field}"):
        ObjectiveConfig(**{field: value})
