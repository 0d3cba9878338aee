import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.objectives.columns import ColumnNames
from srum_jax.objectives.config import Joint, PolicyGradient, Preference, RewardWeighted
from srum_jax.objectives.loss import objective_loss, objective_totals
from srum_jax.objectives.preference import preference_loss
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores
from tests.golden import suder_case

JOINT = Joint(generation=RewardWeighted(reference_coefficient=0.0), understanding=Preference(),
              generation_coefficient=2.0, understanding_coefficient=0.5)


def batch():
    """Two pictures of two tokens, and a pair of texts."""
    scores = TokenScores(image_error=jnp.array([[0.5, 0.1, 0.2, 0.4]]), reference_error=None, time=None,
                         text_log_prob=jnp.array([[-1.0, -2.0, -0.5]]))
    masks = TokenMasks(image=np.ones((1, 4), bool), image_sample=np.array([[0, 0, 1, 1]]),
                       text=np.ones((1, 3), np.float32), text_sample=np.array([[2, 2, 3]]), streams={}, num_samples=4)
    columns = Columns({"alpha": np.array([[1.0, 1.0, 0.0, 0.0]]), "reward_map": np.ones((1, 4))},
                      {"pair": np.zeros((1, 3)), "side": np.array([[1.0, 1.0, -1.0]])})
    return scores, masks, columns


def loss(objective, scores, masks, columns):
    return objective_loss(objective, scores, masks, columns, objective_totals(objective, masks, columns))


def test_each_direction_is_a_mean_over_its_own_units():
    value, logged = loss(JOINT, *batch())
    text = preference_loss(jnp.asarray(2.5 * (-1.5 + 0.5) - 1.25))
    np.testing.assert_allclose(value, 2 * 0.6 / 4 + 0.5 * text, rtol=1e-6)
    assert logged["loss/text"].weight == 0  # texts are not also learnt as they are
    assert JOINT.columns == ColumnNames(image=("alpha", "reward_map"), text=("pair", "side"))


def test_a_direction_without_units_adds_exactly_nothing():
    scores, masks, columns = batch()
    without_texts = TokenMasks(masks.image, masks.image_sample, np.zeros_like(masks.text), masks.text_sample, {}, 4)
    assert float(loss(JOINT, scores, without_texts, columns)[0]) == np.float32(2 * 0.6 / 4)
    without_pictures = TokenMasks(np.zeros_like(masks.image), masks.image_sample, masks.text, masks.text_sample, {}, 4)
    slope = jax.grad(lambda s: loss(JOINT, s, without_pictures, columns)[0])(scores)
    assert not np.any(slope.image_error) and np.any(slope.text_log_prob)


def test_the_worked_example_of_both_directions():
    """Plain errors of pictures; texts whose loss, at a ratio of 1, is minus their advantage."""
    given, expected = suder_case("joint_loss")
    joint = Joint(generation=RewardWeighted(reward_coefficient=0.0, reference_coefficient=1.0),
                  understanding=PolicyGradient(), generation_coefficient=given["generation_coefficient"],
                  understanding_coefficient=given["understanding_coefficient"])
    image_losses, text_losses = (
        jnp.asarray(given[name], jnp.float32)[None] for name in ("image_losses", "text_losses"))
    scores = TokenScores(image_losses, reference_error=None, time=None, text_log_prob=jnp.zeros((1, 2)))
    columns = Columns({"alpha": jnp.ones((1, 3)), "reward_map": jnp.ones((1, 3))}, {"advantage": -text_losses})

    def both(text_weights):
        masks = TokenMasks(image=given["image_weights"][None] > 0, image_sample=np.array([[0, 0, -1]]),
                           text=np.asarray(text_weights, np.float32)[None], text_sample=np.array([[1, 2]]), streams={},
                           num_samples=3)
        return loss(joint, scores, masks, columns)[0]

    np.testing.assert_allclose(both(given["text_weights"]), expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(both(np.zeros(2)), expected["loss_without_texts"], rtol=1e-5)


def test_pictures_of_a_flow_are_fit_where_texts_alone_are_compared():
    JOINT.check("flow")
