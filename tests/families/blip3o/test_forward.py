"""Scores of a batch; the arithmetic is held by `tools/check_parity`, which runs the same forward pass."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from srum_jax.data.example import stack_rows
from srum_jax.families.blip3o.forward import Blip3oForward, encode
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import RewardWeighted
from srum_jax.training.config import LoraConfig
from srum_jax.training.lora import attach_factors
from srum_jax.training.state import split_trainable
from srum_jax.training.step import share_of_loss
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load
from tests.families.blip3o.test_rows import MODEL, drawing, filled, packer
from tests.families.blip3o.tiny_checkpoint import shared

FORWARD = Blip3oForward(MODEL, ComputeConfig())


@pytest.fixture(scope="module")
def loaded():
    return load(open_checkpoint(shared(), BLIP3O, {"eva"}))


@pytest.fixture(scope="module")
def scores(loaded):
    graphdef, state = loaded
    run = jax.jit(lambda batch, draws: FORWARD.scores(nnx.merge(graphdef, state), batch, draws))
    return lambda batch: run(batch, FORWARD.draws(jax.random.key(0), batch))


def batch_of(*examples):
    return stack_rows([filled(*examples, of=packer(readings_per_row=0, reading_capacity=0, reading_windows=0,
                                                   answer_capacity=0))])


@pytest.mark.slow
def test_times_lie_between_data_and_noise_and_are_those_of_the_slot(scores):
    batch = batch_of(drawing(), drawing())
    time = np.asarray(scores(batch).time).reshape(2, -1)
    expected = (1000 - np.floor(1000 * batch.uniform[0])) / 1000
    np.testing.assert_allclose(time, np.repeat(expected[:, None], time.shape[1], axis=1), rtol=1e-6)


def test_a_dropped_condition_is_that_of_no_prompt_whatever_the_prompt_was(scores):
    one, other = (scores(dataclasses.replace(batch, conditioned=np.zeros((1, 2), bool))).image_error
                  for batch in (batch_of(drawing()), batch_of(drawing("two blue squares"))))
    with_prompt = scores(batch_of(drawing())).image_error
    np.testing.assert_array_equal(one[:, :16], other[:, :16])
    assert np.abs(one - with_prompt)[:, :16].max() > 1e-3


def test_stored_features_score_as_the_picture_does_up_to_their_rounding(loaded, scores):
    batch = batch_of(drawing())
    eva = nnx.merge(*loaded).eva
    stored = dataclasses.replace(batch, pixels=np.zeros((1, 2, 0, 0, 3), np.uint8), features=np.asarray(
        jax.jit(lambda pixels: encode(eva, pixels, FORWARD.compute))(batch.pixels)).astype(np.float16))
    np.testing.assert_allclose(scores(stored).image_error[:, :16], scores(batch).image_error[:, :16], rtol=5e-3)


@pytest.mark.slow
def test_the_gradient_passes_the_frozen_language_model_to_the_queries_and_ignores_empty_slots(loaded):
    graphdef, state = loaded
    trained, frozen = split_trainable(state, ("default",), BLIP3O)
    assert {path[0] for path, _ in nnx.to_flat_state(trained)} == {"dit", "queries"}
    objective = RewardWeighted(reward_coefficient=0.0, reference_coefficient=1.0)

    @jax.jit
    def gradient(batch, draws):
        def loss(trained):
            model = nnx.merge(graphdef, trained, frozen)
            return share_of_loss(model, FORWARD, objective, batch, draws)[0]

        return jax.grad(loss)(trained)

    one = stack_rows([packer(readings_per_row=0, reading_capacity=0, reading_windows=0, answer_capacity=0
                             ).empty_row().finish()])
    batch = dataclasses.replace(batch_of(drawing()), image_columns={
        "alpha": np.ones((1, 32), np.float32), "reward_map": np.ones((1, 32), np.float32)})
    empty = dataclasses.replace(one, image_columns=batch.image_columns)
    draws = FORWARD.draws(jax.random.key(0), batch)
    nothing = gradient(empty, draws)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(nothing))
    found = gradient(batch, draws)
    assert np.abs(np.asarray(found["queries"]["vectors"].get_value())).max() > 1e-6
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    elsewhere = gradient(batch, draws.at[:, 16:].set(50.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, elsewhere)


def test_factors_of_lora_find_the_maps_that_they_name_and_start_from_the_loaded_model(loaded):
    graphdef, state = loaded
    config = LoraConfig(rank=2, targets=("query", "key", "value", "cross_*", "out", "gate", "up", "down"))
    with_factors, shapes = attach_factors(graphdef, state, config, BLIP3O)
    factors = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    assert len(jax.tree.leaves(factors)) == 2 * len(BLIP3O.linear_maps) == 20
    batch = batch_of(drawing())
    draws = FORWARD.draws(jax.random.key(0), batch)
    found, plain = (jax.jit(lambda states, graphdef=graphdef: FORWARD.scores(
        nnx.merge(graphdef, *states), batch, draws).image_error)(states)
        for graphdef, states in ((with_factors, (factors, state)), (graphdef, (state,))))
    np.testing.assert_allclose(found[:, :16], plain[:, :16], rtol=1e-5)
