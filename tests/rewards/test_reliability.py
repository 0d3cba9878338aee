import numpy as np
import pytest

from srum_jax.rewards.reliability import ScoredGroup, by_category, reliability


def group(rewards, category="all", **known):
    rewards = np.asarray(rewards, float)
    return ScoredGroup(category, rewards, rewards, **known)


def test_halves_of_the_draws_and_the_reference_are_compared_by_rank():
    draws = np.array([[3.0, 3.0], [2.0, 1.0], [1.0, 2.0]])
    found = reliability([group(draws.mean(axis=1), draws=draws, reference=np.array([3.0, 2.0, 1.0]))])
    assert found["tau_halves"] == pytest.approx(1 / 3)
    assert found["best_agrees"] == 1 and found["worst_agrees"] == 0
    assert reliability([group([1, 2], draws=np.array([[1.0], [2.0]]))]).keys() == {"spread", "noise_floor"}


def test_right_members_are_told_from_wrong_ones_where_somebody_knows():
    found = reliability([group([3, 2, 1], right=np.array([True, False, True])),
                         group([1, 2, 3], right=np.array([False, False, True])),
                         group([1, 2], right=np.array([False, False]))])
    assert found["auc"] == pytest.approx((0.5 + 1) / 2) and found["right_is_first"] == 1


def test_the_noise_floor_is_the_largest_change():
    one = ScoredGroup("all", np.array([1.0, 2.0]), np.array([1.0, 2.25]))
    other = ScoredGroup("all", np.array([1.0, 2.0]), np.array([1.125, 2.0]))
    assert reliability([one, other])["noise_floor"] == 0.25


def test_both_directions_are_compared_by_rank():
    found = reliability([group([3, 2, 1], other=np.array([-1.0, -2.0, -3.0])),
                         group([3, 2, 1], other=np.array([-1.0, -3.0, -2.0]))])
    assert found["tau_directions"] == pytest.approx((1 + 1 / 3) / 2)


def test_length_is_watched_within_groups():
    assert reliability([group([1, 2, 3], lengths=np.array([2, 4, 6]))])["length_correlation"] == pytest.approx(1)
    assert "length_correlation" not in reliability([group([1, 2, 3], lengths=np.array([2, 2, 2]))])


def test_every_category_has_a_line_and_so_has_the_whole():
    found = by_category([group([1, 2], "b"), group([1, 4], "a"), group([1, 2], "b")])
    assert list(found) == ["a", "b", "all"] and found["all"]["groups"] == 3 and found["b"]["groups"] == 2
