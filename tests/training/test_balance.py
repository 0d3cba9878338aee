"""Gradients of both directions that are scaled to one norm."""

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.training.balance import balance_directions
from srum_jax.training.config import OptimizerConfig
from srum_jax.training.optimizer import make_optimizer

PARAMETERS = {"a": jnp.zeros(3), "b": jnp.zeros(2)}


def tree(*values):
    return {"a": jnp.array(values[:3], jnp.float32), "b": jnp.array(values[3:], jnp.float32)}


G, U = tree(3, 0, 0, 4, 0), tree(0, 0, 0, 0, 0.5)  # of norms 5 and 0.5
NOTHING = tree(0, 0, 0, 0, 0)


def both(one, other):
    return jax.tree.map(jnp.add, one, other)


def updated(state, generation, understanding):
    return balance_directions().update(both(generation, understanding), state, of_generation=generation)


def test_texts_pull_as_much_as_pictures_and_in_their_own_direction():
    found, state = updated(balance_directions().init(PARAMETERS), G, U)
    np.testing.assert_allclose(found["b"], [4, 5], rtol=1e-6)  # 0.5 times 10
    np.testing.assert_allclose(found["a"], [3, 0, 0], rtol=1e-6)
    assert float(state.understanding_scale) == 10


def test_the_scale_comes_from_running_means():
    _, state = updated(balance_directions().init(PARAMETERS), G, U)
    _, state = updated(state, jax.tree.map(lambda x: 2 * x, G), U)
    np.testing.assert_allclose(state.generation_norm, 0.9 * 5 + 0.1 * 10, rtol=1e-6)
    np.testing.assert_allclose(state.understanding_scale, 5.5 / 0.5, rtol=1e-6)


def test_a_step_without_one_direction_leaves_its_mean():
    first = balance_directions().init(PARAMETERS)
    found, alone = updated(first, NOTHING, U)
    np.testing.assert_array_equal(found["b"], U["b"])  # nothing to be balanced with yet
    assert float(alone.understanding_scale) == 1
    _, state = updated(alone, G, NOTHING)
    assert (float(state.generation_norm), float(state.understanding_norm)) == (5, 0.5)
    _, state = updated(state, tree(*[np.nan] * 5), NOTHING)
    assert float(state.generation_norm) == 5


def test_a_difference_that_is_rounding_has_no_norm_that_counts():
    rounding = jax.tree.map(lambda x: 1e-7 * (x + 1), G)
    found, state = updated(balance_directions().init(PARAMETERS), G, rounding)
    np.testing.assert_allclose(found["a"], G["a"], atol=1e-5)  # and not as much again, in the direction of noise
    assert (float(state.understanding_norm), float(state.understanding_scale)) == (0, 1)


def test_the_optimizer_clips_what_is_balanced():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=0, clip_norm=1.0)
    optimizer = make_optimizer(config, balanced=True)
    _, state = optimizer.update(both(G, U), optimizer.init(PARAMETERS), PARAMETERS, of_generation=G)
    first_moment = np.asarray(state[2].mu["b"]) / (1 - config.beta1)
    np.testing.assert_allclose(first_moment, np.array([4, 5]) / np.sqrt(9 + 16 + 25), rtol=1e-5)
