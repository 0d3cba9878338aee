import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.reward_weighted import reward_weight
from srum_jax.rewards.groups import advantages, alpha_of_advantage, best_and_worst, spread
from srum_jax.rewards.rank_agreement import area_under_curve, kendall_tau
from tests.golden import suder_case

RTOL = 1e-9


def test_a_pair_is_the_best_and_the_worst_of_a_group():
    given, expected = suder_case("best_and_worst")
    found = best_and_worst(given["rewards"], given["valid"], given["min_gap"])
    for name in ("best", "worst", "weight"):
        assert getattr(found, name).tolist() == expected[name].tolist()
    np.testing.assert_allclose(found.gap, expected["gap"], rtol=RTOL)
    assert found.degenerate_share == expected["degenerate_share"]


def test_a_group_in_which_nobody_counts_makes_no_pair():
    found = best_and_worst(np.full((1, 3), np.nan), np.zeros((1, 3), bool), 0.0)
    assert found.weight.tolist() == [0] and found.best[0] != found.worst[0]


def test_advantages_by_the_spread_of_the_group_of_the_batch_or_of_nothing():
    given, expected = suder_case("grpo_advantages")
    for name, settings in (("group_ddof1", {}), ("group_ddof0", {"ddof": 0}), ("batch_ddof1", {"scale": "batch"}),
                           ("none", {"scale": "none"})):
        found = advantages(given["rewards"], given["valid"], epsilon=given["epsilon"], **settings)
        np.testing.assert_allclose(found, expected[name], rtol=RTOL, atol=1e-15, err_msg=name)
        assert not found[1].any()  # exactly 0 without spread
    flat = np.mean(spread(given["rewards"], given["valid"]) <= given["min_spread"])
    assert flat == expected["zero_std_share"]


@drawn(st.integers(0, 2**31 - 1), st.sampled_from(["group", "batch", "none"]))
def test_advantages_of_the_members_that_count_add_up_to_zero(seed, scale):
    draws = np.random.default_rng(seed)
    rewards, valid = draws.normal(size=(4, 6)), draws.random((4, 6)) < 0.7
    found = advantages(np.where(valid, rewards, np.nan), valid, scale=scale)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-9)
    assert not found[~valid].any()


def test_an_advantage_becomes_the_weight_of_a_picture():
    given, expected = suder_case("advantage_to_alpha")
    objective = RewardWeighted(reference_coefficient=given["reference_coefficient"], factor_floor=given["factor_floor"])

    def factor(rule):
        alpha = alpha_of_advantage(given["advantage"], rule, limit=given["advantage_limit"])
        return reward_weight(objective, alpha, np.ones_like(alpha)) + objective.reference_coefficient

    np.testing.assert_allclose(factor("signed"), expected["signed_factor"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(factor("positive"), expected["positive_factor"], rtol=1e-5)
    np.testing.assert_allclose(alpha_of_advantage(given["advantage"], "srum"), expected["judge_like_alpha"], rtol=RTOL)
    np.testing.assert_allclose(alpha_of_advantage(given["advantage"], "exponential"), expected["exponential"],
                               rtol=RTOL)


def test_two_rankings_agree_by_pairs():
    given, expected = suder_case("kendall_tau")
    np.testing.assert_allclose(kendall_tau(given["a"], given["b"]), (expected["tau_a"], expected["tau_b"]), rtol=RTOL)
    assert np.isnan(kendall_tau(np.zeros(3), np.arange(3))[1]) and np.isnan(kendall_tau([1], [1])[0])


def test_the_area_under_the_curve_is_the_share_of_right_pairs():
    assert area_under_curve([3, 1, 2, 1], [True, True, False, False]) == (1 + 1 + 0 + 0.5) / 4
    assert np.isnan(area_under_curve([1, 2], [True, True]))


@pytest.mark.parametrize(("function", "name"), [
    (lambda: advantages(np.zeros((1, 2)), np.ones((1, 2), bool), scale="all"), "scale"),
    (lambda: alpha_of_advantage(np.zeros(2), "best"), "alpha_of"),
])
def test_an_unknown_rule_is_named_with_those_that_there_are(function, name):
    with pytest.raises(ValueError, match=f"{name}: expected one of"):
        function()
