import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.data.schema import Region
from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.flow_path import velocity_error
from srum_jax.objectives.loss import objective_loss, objective_totals
from srum_jax.objectives.reward_weighted import reward_weight
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores, error_by_time
from srum_jax.objectives.weighted_sum import WeightedSum
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.token_grid import Grid
from tests.data.made_up import made_up_record


def scores_of(image, reference=None, text=None, time=None):
    text = jnp.zeros((len(image), 0)) if text is None else text
    return TokenScores(image_error=image, reference_error=reference, time=time, text_log_prob=text)


def masks_of(mask, text=None):
    text = np.zeros((len(mask), 0), np.float32) if text is None else text
    return TokenMasks(image=mask, image_sample=np.where(mask, 0, -1), text=text, text_sample=np.where(text > 0, 0, -1),
                      streams={}, num_samples=1)


def loss(objective, scores, masks, alpha, reward_map):
    columns = Columns({"alpha": alpha, "reward_map": reward_map}, {})
    return objective_loss(objective, scores, masks, columns, objective_totals(objective, masks, columns))[0]


def example(rows=3, tokens=7, seed=0):
    keys = jax.random.split(jax.random.key(seed), 7)
    v, latent, reference, noise = (jax.random.normal(k, (rows, tokens, 4)) for k in keys[:4])
    alpha = jax.random.uniform(keys[4], (rows, tokens))
    reward_map = jax.random.uniform(keys[5], (rows, tokens), minval=-1.0)
    mask = jax.random.bernoulli(keys[6], 0.7, (rows, tokens))
    scores = scores_of(velocity_error(v, latent, noise), velocity_error(v, reference, noise))
    return scores, alpha, reward_map, mask, (v, latent, reference, noise)


def test_the_loss_is_the_formula_of_the_paper():
    scores, alpha, reward_map, mask, (v, latent, reference, noise) = example()
    keep = np.asarray(mask)
    first = (np.asarray(alpha * reward_map)[..., None] * np.square(v - (noise - latent)))[keep].mean()
    second = np.square(v - (noise - reference))[keep].mean()
    found = loss(RewardWeighted(reference_coefficient=0.5), scores, masks_of(mask), alpha, reward_map)
    np.testing.assert_allclose(found, first + 0.5 * second, rtol=1e-6)


def test_plain_fine_tuning_and_no_reference_are_settings_of_the_same_objective():
    scores, alpha, reward_map, mask, _ = example()
    keep = np.asarray(mask)
    plain = RewardWeighted(reward_coefficient=0.0, reference_coefficient=1.0)
    np.testing.assert_allclose(loss(plain, scores, masks_of(mask), alpha, reward_map),
                               np.asarray(scores.reference_error)[keep].mean(), rtol=1e-6)
    alone = RewardWeighted(reference_coefficient=0.0)
    np.testing.assert_allclose(loss(alone, scores, masks_of(mask), alpha, reward_map),
                               np.asarray(alpha * reward_map * scores.image_error)[keep].mean(), rtol=1e-6)


def test_where_there_is_no_other_draw_the_picture_is_its_own_reference():
    scores, alpha, reward_map, mask, _ = example()
    without = dataclasses.replace(scores, reference_error=None)
    itself = dataclasses.replace(scores, reference_error=scores.image_error)
    found, expected = (loss(RewardWeighted(), x, masks_of(mask), alpha, reward_map) for x in (without, itself))
    assert found == expected != loss(RewardWeighted(), scores, masks_of(mask), alpha, reward_map)


def test_texts_count_token_by_token_or_by_the_weights_that_they_bring():
    log_prob = jnp.array([[-1.0, -2.0, -4.0, 99.0]])
    masks = masks_of(np.zeros((1, 0), bool), np.array([[0.5, 0.5, 1.0, 0.0]], np.float32))
    scores, nothing = scores_of(jnp.zeros((1, 0)), text=log_prob), jnp.zeros((1, 0))
    np.testing.assert_allclose(loss(RewardWeighted(), scores, masks, nothing, nothing), 7 / 3, rtol=1e-6)
    reweighted = RewardWeighted(reweight_text=True)
    np.testing.assert_allclose(loss(reweighted, scores, masks, nothing, nothing), 5.5 / 2, rtol=1e-6)


def test_what_is_masked_out_may_be_anything():
    scores, alpha, reward_map, mask, _ = example()
    poisoned = jax.tree.map(lambda x: jnp.where(mask, x, jnp.nan) if x.shape == mask.shape else x, scores)
    value, gradient = jax.value_and_grad(
        lambda s: loss(RewardWeighted(), s, masks_of(np.asarray(mask)), alpha, reward_map))(poisoned)
    np.testing.assert_allclose(value, loss(RewardWeighted(), scores, masks_of(mask), alpha, reward_map), rtol=1e-6)
    assert np.all(np.asarray(gradient.image_error)[~np.asarray(mask)] == 0)


def test_shares_of_parts_add_up_to_the_loss_of_the_whole():
    scores, alpha, reward_map, mask, _ = example(rows=4)
    objective, mask = RewardWeighted(), np.asarray(mask)
    columns = Columns({"alpha": alpha, "reward_map": reward_map}, {})
    totals = objective_totals(objective, masks_of(mask), columns)
    shares = [objective_loss(objective, jax.tree.map(lambda x, r=r: x[r], scores), masks_of(mask[r]),
                        jax.tree.map(lambda x, r=r: x[r], columns), totals)[0] for r in (slice(0, 1), slice(1, 4))]
    np.testing.assert_allclose(sum(shares), loss(objective, scores, masks_of(mask), alpha, reward_map), rtol=1e-6)


def test_the_error_of_each_quarter_of_the_time_is_told_apart():
    scores = scores_of(jnp.array([[1.0, 2.0, 3.0, 4.0]]), time=jnp.array([[0.0, 0.3, 1.0, 0.9]]))
    found = error_by_time(scores, masks_of(np.array([[True, True, True, False]])))
    assert [float(found[f"loss_by_time/q{i}"].mean()) for i in range(4)] == [1.0, 2.0, 0.0, 3.0]
    assert error_by_time(dataclasses.replace(scores, time=None), masks_of(np.ones((1, 4), bool))) == {}


def test_a_window_of_the_picture_moves_the_boxes_and_shortens_what_leaves_it():
    regions = (Region(Box(0, 0, 12, 20), 1.0), Region(Box(18, 0, 24, 20), -0.5))
    record = made_up_record(0, regions=regions, global_score=0.5)  # 24 x 20 pixels
    found = RewardWeighted().columns_of(record, Grid(1, 4, Box(4, 0, 20, 20), 8, 2))
    np.testing.assert_allclose(found["reward_map"], [[1, 1, 0, -0.25]])
    assert found["alpha"].tolist() == [[0.75] * 4]


def test_the_floor_bounds_the_sum_of_both_factors_and_nothing_else():
    alpha, reward_map = jnp.ones((1, 3)), jnp.array([[-1.0, -0.2, 0.9]])
    free = RewardWeighted(reference_coefficient=0.5)
    floored = RewardWeighted(reference_coefficient=0.5, factor_floor=0.0)
    np.testing.assert_allclose(reward_weight(free, alpha, reward_map), reward_map)
    np.testing.assert_allclose(reward_weight(floored, alpha, reward_map), [[-0.5, -0.2, 0.9]])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 2**31 - 1))
def test_the_mean_of_a_batch_does_not_depend_on_how_it_is_split(sizes, seed):
    draws = np.random.default_rng(seed)
    values = [draws.normal(size=n).astype(np.float32) for n in sizes]
    weights = [draws.integers(0, 3, n).astype(np.float32) for n in sizes]

    def padded(x, length):  # without weight, so that all examples have one shape
        return jnp.asarray(np.pad(x, (0, length - len(x))))

    parts = [WeightedSum.of(padded(v, 6), padded(w, 6)) for v, w in zip(values, weights, strict=True)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    whole = WeightedSum.of(padded(np.concatenate(values), 30), padded(np.concatenate(weights), 30))
    np.testing.assert_allclose(merged.mean(), whole.mean(), atol=1e-5)


def test_the_mean_of_nothing_is_zero():
    assert WeightedSum.of(jnp.array([jnp.nan]), jnp.array([0.0])).mean() == 0


@pytest.mark.parametrize("field", ["reward_coefficient", "reference_coefficient", "text_coefficient"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_coefficient_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=f"objective.{field}"):
        RewardWeighted(**{field: value})
