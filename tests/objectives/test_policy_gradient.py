import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.objectives.config import PolicyGradient
from srum_jax.objectives.loss import objective_totals
from srum_jax.objectives.policy_gradient import clipped_surrogate, kl_estimates
from tests.golden import suder_case
from tests.objectives.sequences import loss_of, text_batch

RTOL = 1e-5


def test_the_surrogate_has_no_gradient_where_it_is_clipped():
    given, expected = suder_case("grpo_clipped_surrogate")
    log_prob, old, advantage = (jnp.asarray(given[name], jnp.float32) for name in ("logp", "old_logp", "advantage"))

    def surrogate(log_prob):
        return clipped_surrogate(log_prob, old, advantage, given["epsilon_low"], given["epsilon_high"])

    found = surrogate(log_prob)
    np.testing.assert_allclose(found.ratio, expected["ratio"], rtol=RTOL)
    np.testing.assert_allclose(found.loss, expected["loss"], rtol=RTOL)
    for name in ("clipped_low", "clipped_high"):
        assert getattr(found, name).tolist() == expected[name].tolist()
    np.testing.assert_allclose(jax.grad(lambda x: surrogate(x).loss.sum())(log_prob), expected["d_logp"], rtol=RTOL)
    np.testing.assert_allclose((found.clipped_low | found.clipped_high).mean(), expected["clip_fraction"], rtol=RTOL)
    np.testing.assert_allclose(kl_estimates(log_prob, old)[1].mean(), expected["approx_kl"], rtol=RTOL)


def test_estimates_of_the_distance_from_the_reference():
    given, expected = suder_case("kl_estimators")
    log_prob, reference = (jnp.asarray(given[name], jnp.float32) for name in ("logp", "reference_logp"))
    for name, found in zip(("k1", "k2", "k3"), kl_estimates(log_prob, reference), strict=True):
        np.testing.assert_allclose(found, expected[name], rtol=RTOL, atol=1e-7)
    slope = jax.grad(lambda x: kl_estimates(x, reference)[2].sum())(log_prob)
    np.testing.assert_allclose(slope, expected["d_k3"], rtol=RTOL, atol=1e-7)


def sequences(given, rows=4, poison=0.0):
    """The four sequences of the case, in as many rows as asked, each followed by padding."""
    def laid_out(values, fill):
        return np.pad(values, ((0, 0), (0, 1)), constant_values=fill).reshape(rows, -1)

    per_row, length = 4 // rows, given["mask"].shape[1] + 1
    sample = np.broadcast_to(np.repeat(np.arange(per_row), length), (rows, per_row * length))
    advantage = np.broadcast_to(given["advantage"][:, None], given["mask"].shape)
    mask = laid_out(given["mask"], 0)
    return text_batch(np.where(mask, laid_out(given["logp"], 0), poison), mask, sample, 4,
                      advantage=laid_out(advantage, 0), old_log_prob=laid_out(given["old_logp"], 0),
                      reference_log_prob=laid_out(given["reference_logp"], 0))


def settings(given, **changes):
    return PolicyGradient(**{"epsilon_low": given["epsilon"], "epsilon_high": given["epsilon"], "on_policy": False,
                             "kl_coefficient": given["beta"], "constant_length": given["constant_length"]} | changes)


@pytest.mark.parametrize("reduction", ["sequence", "token", "constant"])
@pytest.mark.parametrize("rows", [4, 2, 1])
def test_tokens_are_added_up_in_one_of_three_ways_wherever_they_lie(reduction, rows):
    given, expected = suder_case("grpo_loss")
    batch = sequences(given, rows, np.nan)
    value, gradient = jax.value_and_grad(
        lambda s: loss_of(settings(given, reduction=reduction), s, *batch[1:])[0])(batch[0])
    np.testing.assert_allclose(value, expected[reduction]["loss"], rtol=1e-4)
    found = np.asarray(gradient.text_log_prob).reshape(4, -1)[:, :-1]
    np.testing.assert_allclose(found, expected[reduction]["d_logp"], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("reduction", ["sequence", "token", "constant"])
def test_shares_of_micro_batches_add_up(reduction):
    given, expected = suder_case("grpo_loss")
    objective, whole = settings(given, reduction=reduction), sequences(given)
    totals = objective_totals(objective, *whole[1:])
    parts = [loss_of(objective, *jax.tree.map(lambda x, r=r: x[r], whole), totals)[0]
             for r in (slice(0, 1), slice(1, 4))]
    np.testing.assert_allclose(sum(parts), expected[reduction]["loss"], rtol=1e-4)


def test_before_the_first_update_the_loss_is_minus_the_mean_advantage():
    given, _ = suder_case("grpo_loss")
    objective = PolicyGradient()  # on policy, no distance from a reference
    batch = sequences(given)
    loss, logged = loss_of(objective, *batch)
    mask = np.asarray(given["mask"], bool)
    expected = -np.broadcast_to(given["advantage"][:, None], mask.shape)[mask].mean()
    np.testing.assert_allclose(loss, expected, rtol=RTOL)
    assert logged["policy/text_ratio"].mean() == 1 and logged["policy/text_ratio_off_one"].mean() == 0
    slope = jax.grad(lambda s: loss_of(objective, s, *batch[1:])[0])(batch[0]).text_log_prob
    np.testing.assert_allclose(np.asarray(slope)[:, :-1][mask],
                               -np.broadcast_to(given["advantage"][:, None], mask.shape)[mask] / mask.sum(), rtol=RTOL)


def test_only_columns_that_are_used_are_asked_for():
    assert PolicyGradient().columns.text == ("advantage",)
    assert PolicyGradient(on_policy=False, kl_coefficient=0.01).columns.image == (
        "advantage", "old_log_prob", "reference_log_prob")


@pytest.mark.parametrize(("field", "value"), [("epsilon_low", 1.0), ("epsilon_high", 0.0), ("kl_coefficient", -1.0),
                                              ("reduction", "mean"), ("constant_length", 0)])
def test_a_setting_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=rf"objective\.{field}"):
        PolicyGradient(**{field: value})


def test_pictures_of_a_flow_are_refused():
    with pytest.raises(ValueError, match="PolicyGradient needs log probabilities"):
        PolicyGradient().check("flow")


def test_a_ratio_of_errors_is_clipped_like_one_of_probabilities():
    given, expected = suder_case("flow_error_ratio")
    error, old, advantage = (jnp.asarray(given[name], jnp.float32) for name in ("error", "old_error", "advantage"))

    def surrogate(error):
        return clipped_surrogate(-given["scale"] * error, -given["scale"] * old, advantage, given["epsilon"],
                                 given["epsilon"])

    np.testing.assert_allclose(surrogate(error).ratio, expected["ratio"], rtol=1e-4)
    np.testing.assert_allclose(surrogate(error).loss, expected["loss"], rtol=1e-4)
    np.testing.assert_allclose(jax.grad(lambda e: surrogate(e).loss.sum())(error), expected["d_error"], rtol=1e-4)
