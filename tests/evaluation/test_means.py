"""Means with standard errors over items, nothing partial under a benchmark's name, and paired differences."""

import numpy as np
import pytest

from srum_jax.evaluation.benchmark import EvalItem, ItemScore, Term, Total, category_totals, equal_weights
from srum_jax.evaluation.means import Scores, paired_difference

ITEMS = [EvalItem(str(number), "color" if number < 4 else "shape", "a cup") for number in range(6)]
OVERALL = Total("overall", equal_weights(["color", "shape"]))


def scores(values, failed=()):
    return {str(number): ItemScore(str(number), ITEMS[number].category, {}, True, "no score") if number in failed else
            ItemScore(str(number), ITEMS[number].category, {"score": float(value)})
            for number, value in enumerate(values) if value is not None}


def test_the_overall_number_is_the_mean_of_category_means_and_errors_add_in_squares():
    table = Scores(ITEMS, scores([1, 2, 3, 6, 10, 20]))
    color, shape = category_totals(ITEMS)
    assert table.mean(color).mean == 3.0 and table.mean(shape).mean == 15.0
    errors = [np.std([1, 2, 3, 6], ddof=1) / 2, np.std([10, 20], ddof=1) / np.sqrt(2)]
    found = table.mean(OVERALL)
    assert (found.mean, found.n) == (9.0, 6)
    assert found.stderr == pytest.approx(np.hypot(*errors) / 2)


def test_an_item_that_is_missing_makes_every_total_that_it_enters_partial():
    table = Scores(ITEMS, scores([1, 2, 3, 6, 10, None]))
    color, shape = category_totals(ITEMS)
    assert table.is_whole(color) and not table.is_whole(shape) and not table.is_whole(OVERALL)
    assert table.mean(shape).n == 1 and table.mean(shape).stderr is None
    assert Scores(ITEMS, {}).mean(color) is None


@pytest.mark.parametrize(("failure", "mean", "n"), [(-1.0, 2.0, 4), (0.0, 2.25, 4), (None, 3.0, 3)])
def test_a_failed_item_counts_as_the_rule_says(failure, mean, n):
    table = Scores(ITEMS, scores([1, 2, 6, 0, 10, 20], failed=(3,)), failure)
    found = table.mean(category_totals(ITEMS)[0])
    assert (found.mean, found.n) == (mean, n) and table.failed == ["3"]


def test_a_constant_difference_has_an_interval_of_no_width_whatever_the_spread():
    mine, others = Scores(ITEMS, scores([1, 9, 3, 6, 10, 20])), Scores(ITEMS, scores([0, 8, 2, 5, 8, 18]))
    found = paired_difference(mine, others, OVERALL)
    assert (found.difference, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))


def test_the_interval_is_that_of_the_normal_distribution_where_items_are_many():
    rng = np.random.default_rng(3)
    items = [EvalItem(str(number), "color", "a cup") for number in range(400)]
    values = rng.normal(size=(2, 400))
    sides = [Scores(items, {item.id: ItemScore(item.id, "color", {"score": value})
                            for item, value in zip(items, row, strict=True)}) for row in values]
    found = paired_difference(*sides, Total("overall", (Term("color", "score"),)))
    error = np.std(values[0] - values[1], ddof=1) / 20
    assert found.difference == pytest.approx(np.mean(values[0] - values[1]))
    assert [found.low, found.high] == pytest.approx([found.difference - 1.96 * error, found.difference + 1.96 * error],
                                                    abs=0.01)
    assert paired_difference(*sides, Total("overall", (Term("color", "score"),))) == found, "the same seed every time"


def test_items_that_one_side_lacks_are_left_out_of_both():
    mine, others = Scores(ITEMS, scores([1, 1, 1, None, 5, 5])), Scores(ITEMS, scores([0, 0, None, 0, 5, 5]))
    assert paired_difference(mine, others, category_totals(ITEMS)[0]).difference == 1.0
    assert paired_difference(mine, Scores(ITEMS, {}), OVERALL) is None
