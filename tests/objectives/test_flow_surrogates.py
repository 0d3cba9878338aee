"""Objectives for pictures of a flow, on made-up errors laid out in rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.errors import BadInput
from srum_jax.objectives.config import FlowPolicyGradient, FlowPreference
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores
from tests.golden import suder_case
from tests.objectives.sequences import loss_of


def picture_batch(errors, rows, tokens=3, **columns):
    """Pictures of so many tokens each, with mean errors as given, in rows with padding behind; columns by picture."""
    errors = np.asarray(errors, np.float32)
    per_row = len(errors) // rows
    spread = np.linspace(-0.01, 0.01, tokens, dtype=np.float32)  # its mean is 0

    def laid_out(values, padding):
        return np.pad(values.reshape(rows, per_row * tokens), ((0, 0), (0, 2)), constant_values=padding)

    def by_picture(values, padding=0):
        return laid_out(np.repeat(np.asarray(values, np.float32), tokens), padding)

    sample = laid_out(np.tile(np.repeat(np.arange(per_row), tokens), rows), -1)
    error = laid_out((errors[:, None] + spread).ravel(), np.nan)
    mask, nothing = sample >= 0, np.zeros((rows, 0), np.float32)
    masks = TokenMasks(image=mask, image_sample=sample, text=nothing, text_sample=nothing.astype(np.int32), streams={},
                       num_samples=max(per_row, 2))
    scores = TokenScores(image_error=jnp.asarray(error), reference_error=None,
                         time=jnp.where(mask, 0.6, 0.0), text_log_prob=jnp.asarray(nothing))
    return scores, masks, Columns({name: by_picture(values) for name, values in columns.items()}, {})


def d_error(objective, batch):
    """The loss and its derivative by each picture's mean error."""
    scores, masks, columns = batch
    loss, slope = jax.value_and_grad(lambda s: loss_of(objective, s, masks, columns)[0])(scores)
    slope = np.where(masks.image, slope.image_error, 0)
    assert not np.isnan(slope).any()
    return loss, slope[masks.image].reshape(-1, 3).sum(axis=1)


@pytest.mark.parametrize("rows", [4, 2, 1])
def test_a_picture_counts_by_the_clipped_ratio_of_its_mean_errors_wherever_it_lies(rows):
    given, expected = suder_case("flow_error_ratio")
    objective = FlowPolicyGradient(given["scale"], given["epsilon"], given["epsilon"], on_policy=False)
    batch = picture_batch(given["error"], rows, advantage=given["advantage"], old_error=given["old_error"])
    loss, slope = d_error(objective, batch)
    np.testing.assert_allclose(loss, np.mean(expected["loss"]), rtol=1e-4)
    np.testing.assert_allclose(slope, expected["d_error"] / 4, rtol=1e-3, atol=1e-5)
    _, logged = loss_of(objective, *batch)
    np.testing.assert_allclose(logged["flow_policy/ratio_most_off_one"].mean(), np.abs(expected["ratio"] - 1).max(),
                               rtol=1e-4)
    np.testing.assert_allclose(logged["loss_by_time_better/q2"].mean(), np.mean(given["error"][[0, 2]]), rtol=1e-5)
    np.testing.assert_allclose(logged["loss_by_time_worse/q2"].mean(), np.mean(given["error"][[1, 3]]), rtol=1e-5)


def test_before_the_first_update_the_gradient_is_that_of_weighted_flow_matching_times_the_scale():
    advantage = np.array([1.5, -0.5, 0.0, -1.0])
    loss, slope = d_error(FlowPolicyGradient(scale=7.0), picture_batch([0.1, 0.2, 0.3, 0.4], 2, advantage=advantage))
    np.testing.assert_allclose(loss, -advantage.mean(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(slope, 7 * advantage / 4, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [3, 1])
def test_a_pair_counts_by_how_its_errors_have_changed_against_the_reference(rows):
    given, expected = suder_case("flow_preference")

    def interleaved(kind):
        return np.stack([given[f"{kind}_winner"], given[f"{kind}_loser"]], axis=1).ravel()

    pair = np.repeat(np.arange(3) if rows == 1 else np.zeros(3), 2)
    batch = picture_batch(interleaved("error"), rows, pair=pair, side=np.tile([1, -1], 3),
                          reference_error=interleaved("reference"))
    loss, slope = d_error(FlowPreference(beta=given["beta"]), batch)
    np.testing.assert_allclose(loss, np.mean(expected["dpo_loss"]), rtol=1e-4)
    np.testing.assert_allclose(slope[::2], expected["dpo_d_error_winner"] / 3, rtol=1e-3)
    np.testing.assert_allclose(slope[1::2], -slope[::2], rtol=1e-4)


def test_a_step_without_pictures_adds_nothing():
    for objective, columns in ((FlowPolicyGradient(), {"advantage": [1, 1]}),
                               (FlowPreference(), {"pair": [0, 0], "side": [0, 0], "reference_error": [0, 0]})):
        scores, masks, columns = picture_batch([0.1, 0.2], 1, **columns)
        masks = TokenMasks(**{**vars(masks), "image": np.zeros_like(masks.image)})
        assert loss_of(objective, scores, masks, columns)[0] == 0


@pytest.mark.parametrize("objective", [FlowPolicyGradient(), FlowPreference()])
def test_a_surrogate_is_refused_where_there_is_an_exact_objective(objective):
    objective.check("flow")
    with pytest.raises(BadInput, match=f"objective: {type(objective).__name__} is a surrogate .* which is exact"):
        objective.check("log_prob")


@pytest.mark.parametrize(("kind", "field", "value"), [
    (FlowPolicyGradient, "scale", 0.0), (FlowPolicyGradient, "epsilon_low", 1.0),
    (FlowPolicyGradient, "epsilon_high", 0.0), (FlowPreference, "beta", 0.0), (FlowPreference, "smoothing", 0.5)])
def test_a_setting_out_of_range_is_named(kind, field, value):
    with pytest.raises(BadInput, match=rf"objective\.{field}"):
        kind(**{field: value})
