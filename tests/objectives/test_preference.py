import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.objectives.config import Preference
from srum_jax.objectives.flow_surrogates import flow_margin
from srum_jax.objectives.loss import objective_totals
from srum_jax.objectives.preference import preference_loss, simpo_margin
from tests.golden import suder_case
from tests.objectives.sequences import loss_of, text_batch

RTOL = 1e-5


@pytest.mark.parametrize("case", ["simpo", "simpo_large_beta", "simpo_no_margin", "simpo_smoothed"])
def test_the_loss_of_pairs_is_that_of_the_paper(case):
    given, expected = suder_case(case)

    def losses(chosen, rejected):
        z = simpo_margin(chosen, rejected, given["beta"], given["gamma_beta_ratio"])
        return preference_loss(z, given["smoothing"]), z

    chosen, rejected = (jnp.asarray(given[name], jnp.float32) for name in ("chosen", "rejected"))
    loss, z = losses(chosen, rejected)
    gradients = jax.grad(lambda *s: losses(*s)[0].sum(), argnums=(0, 1))(chosen, rejected)
    np.testing.assert_allclose(z, expected["z"], rtol=RTOL, atol=1e-6)
    np.testing.assert_allclose(loss, expected["loss"], rtol=RTOL)
    np.testing.assert_allclose(loss.mean(), expected["mean_loss"], rtol=RTOL)
    np.testing.assert_allclose(gradients[0], expected["d_chosen"], rtol=RTOL)
    np.testing.assert_allclose(gradients[1], expected["d_rejected"], rtol=RTOL)
    np.testing.assert_allclose(gradients[0] + gradients[1], 0, atol=1e-6)
    np.testing.assert_allclose(given["beta"] * (chosen - rejected), expected["margin"], rtol=RTOL, atol=1e-6)


def test_far_from_zero_the_loss_is_a_line_and_its_slope_is_bounded():
    given, expected = suder_case("simpo_extreme")
    chosen, rejected = (jnp.asarray(given[name], jnp.float32) for name in ("chosen", "rejected"))
    loss, gradient = jax.vmap(jax.value_and_grad(
        lambda *pair: preference_loss(simpo_margin(*pair, given["beta"], given["gamma_beta_ratio"]))))(chosen, rejected)
    np.testing.assert_allclose(loss, expected["loss"], rtol=RTOL, atol=1e-6)
    np.testing.assert_allclose(gradient, expected["d_chosen"], rtol=RTOL, atol=1e-6)


def rows_of_pairs(given):
    """Each pair in a row of its own: the winner's tokens, then the loser's."""
    joined = {part: np.concatenate([given[f"chosen_{part}"], given[f"rejected_{part}"]], axis=1)
              for part in ("token_logps", "mask")}
    width = given["chosen_mask"].shape[1]
    side = np.broadcast_to(np.repeat([1, -1], width), joined["mask"].shape)
    return text_batch(joined["token_logps"], joined["mask"], (1 - side) // 2, 2, pair=np.zeros_like(side), side=side)


def test_every_token_of_a_sequence_has_the_same_gradient_and_padding_none():
    given, expected = suder_case("simpo_token_gradients")
    scores, masks, columns = rows_of_pairs(given)
    objective = Preference(beta=given["beta"], gamma_beta_ratio=given["gamma"] / given["beta"])
    loss, gradient = jax.value_and_grad(lambda s: loss_of(objective, s, masks, columns)[0])(scores)
    np.testing.assert_allclose(loss, expected["loss"], rtol=RTOL)
    found = np.split(np.asarray(gradient.text_log_prob), 2, axis=1)
    np.testing.assert_allclose(found[0], expected["d_chosen_tokens"], rtol=RTOL)
    np.testing.assert_allclose(found[1], expected["d_rejected_tokens"], rtol=RTOL)


def two_pairs(poison=0.0):
    """One row with two pairs and padding, and a row with one."""
    log_prob = [[-1.0, -2.0, -0.5, -3.0, -1.5, poison], [-2.0, -1.0, -1.0, poison, poison, poison]]
    mask = [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
    sample = [[0, 0, 1, 2, 3, 0], [0, 1, 1, 0, 0, 0]]
    pair, side = [[0, 0, 0, 1, 1, 0], [0] * 6], [[1, 1, -1, 1, -1, 0], [1, -1, -1, 0, 0, 0]]
    return text_batch(log_prob, mask, sample, 4, pair=pair, side=side)


def test_the_loss_is_the_mean_over_pairs_wherever_they_lie():
    objective = Preference(beta=2.0, gamma_beta_ratio=0.5)
    loss, logged = loss_of(objective, *two_pairs())
    z = 2 * (np.array([-1.5, -3.0, -2.0]) - [-0.5, -1.5, -1.0]) - 1
    np.testing.assert_allclose(loss, np.mean(np.log1p(np.exp(-z))), rtol=RTOL)
    np.testing.assert_allclose(logged["preference/text_winner_log_prob"].mean(), -6.5 / 3, rtol=RTOL)
    assert logged["preference/text_accuracy"].mean() == 0 and logged["loss/preference_text"].weight == 3


def test_padding_may_be_anything_and_rows_may_come_in_any_order():
    objective = Preference()
    expected = loss_of(objective, *two_pairs())[0]
    poisoned = two_pairs(np.nan)
    value, gradient = jax.value_and_grad(lambda s: loss_of(objective, s, *poisoned[1:])[0])(poisoned[0])
    assert value == expected and np.isfinite(gradient.text_log_prob).all()
    turned = jax.tree.map(lambda x: x[::-1], two_pairs())
    np.testing.assert_allclose(loss_of(objective, *turned)[0], expected, rtol=1e-6)


def test_shares_of_micro_batches_add_up():
    objective, whole = Preference(sft_coefficient=0.3), two_pairs()
    totals = objective_totals(objective, *whole[1:])
    parts = [loss_of(objective, *jax.tree.map(lambda x, r=r: x[r : r + 1], whole), totals)[0] for r in range(2)]
    np.testing.assert_allclose(sum(parts), loss_of(objective, *whole)[0], rtol=1e-6)


def test_a_winner_without_loser_is_no_pair():
    scores, masks, columns = two_pairs()
    alone = dataclasses.replace(columns, text=columns.text | {"side": np.maximum(columns.text["side"], 0)})
    assert loss_of(Preference(), scores, masks, alone)[0] == 0
    assert objective_totals(Preference(), masks, alone)["text"] == 0


def test_errors_of_a_flow_are_compared_with_those_of_a_reference():
    given, expected = suder_case("flow_preference")
    winner, loser, reference_winner, reference_loser = (
        jnp.asarray(given[name], jnp.float32)
        for name in ("error_winner", "error_loser", "reference_winner", "reference_loser"))

    def dpo(*pair):
        return preference_loss(flow_margin(*pair, reference_winner, reference_loser, given["beta"]))

    def simpo(better, worse):
        return preference_loss(simpo_margin(-better, -worse, given["beta"], given["simpo_gamma"] / given["beta"]))

    z = flow_margin(winner, loser, reference_winner, reference_loser, given["beta"])
    np.testing.assert_allclose(z, expected["z"], rtol=1e-4)
    for name, function in (("dpo", dpo), ("simpo", simpo)):
        np.testing.assert_allclose(function(winner, loser), expected[f"{name}_loss"], rtol=1e-4)
        found = jax.grad(lambda *e: function(*e).sum(), argnums=(0, 1))(winner, loser)  # noqa: B023
        np.testing.assert_allclose(found[0], expected[f"{name}_d_error_winner"], rtol=1e-4)
        np.testing.assert_allclose(found[1], expected[f"{name}_d_error_loser"], rtol=1e-4)


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("gamma_beta_ratio", -1.0), ("smoothing", 0.5),
                                              ("sft_coefficient", float("nan"))])
def test_a_setting_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=rf"objective\.{field}"):
        Preference(**{field: value})


def test_pictures_of_a_flow_are_refused_with_what_to_do():
    Preference().check("log_prob")
    with pytest.raises(ValueError, match=r"objective: Preference needs log probabilities.*Joint"):
        Preference().check("flow")
