import json

import numpy as np
import pytest

from srum_jax.objectives.weighted_sum import WeightedSum
from srum_jax.observability.metrics import MetricsWindow, is_finite
from srum_jax.training.step import StepMetrics

VALUES = np.random.default_rng(0).uniform(-1, 1, (6, 5)).astype(np.float32)


def step(row, **changes):
    rewards, weight = VALUES[row], np.float32(len(VALUES[row]))
    sums = {
        "loss/reward": WeightedSum(rewards.sum(), weight),
        "loss/text": WeightedSum(np.float32(0), np.float32(0)),
        "reward/map_mean": WeightedSum(rewards.sum(), weight),
        "reward/map_square": WeightedSum(np.square(rewards).sum(), weight),
        "tokens/text": WeightedSum(np.float32(10 + row), np.float32(40)),
        "tokens/padding": WeightedSum(np.float32(20), np.float32(80)),
    }
    fields = dict(loss=np.float32(row + 0.5), gradient_norm=np.float32(row), parameter_norm=np.float32(7),
                  update_norm=np.float32(0.5), sums=sums)
    return StepMetrics(**(fields | changes))


def filled(rows):
    window = MetricsWindow()
    for row in rows:
        window.add(step(row))
    return window


def test_means_run_over_tokens_and_norms_over_steps():
    values = filled(range(6)).summary()
    assert values["loss/total"] == pytest.approx(3.0) and values["norm/gradient"] == pytest.approx(2.5)
    np.testing.assert_allclose(values["loss/reward"], VALUES.mean(), rtol=1e-6)
    np.testing.assert_allclose(values["reward/map_spread"], VALUES.std(), rtol=1e-5)
    assert values["tokens/text"] == pytest.approx(12.5) and values["tokens/padding_share"] == pytest.approx(0.25)
    assert "loss/text" not in values, "a loss over nothing is no number"
    assert "reward/map_square" not in values


def test_a_summary_empties_the_window():
    window = filled([0, 1])
    window.summary()
    assert len(window) == 0
    window.add(step(3))
    assert window.summary() == filled([3]).summary()


def test_a_window_that_went_through_json_goes_on_bit_equal():
    window = MetricsWindow()
    window.set_state(json.loads(json.dumps(filled([0, 1, 2]).get_state())))
    for row in (3, 4, 5):
        window.add(step(row))
    assert window.summary() == filled(range(6)).summary()


@pytest.mark.parametrize("field", ["loss", "gradient_norm", "update_norm"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_gradient_or_update_that_is_no_number_is_noticed(field, value):
    assert is_finite(step(0)) and not is_finite(step(0, **{field: np.float32(value)}))
