import dataclasses

import jax
import numpy as np
import pytest

from srum_jax.experiment import Experiment
from srum_jax.families.bagel.family import FAMILY
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.models.compute import ComputeConfig
from srum_jax.training.abstract_run import abstract_batch
from tests.data.made_up import MODEL, host_batches, settings, write_made_up
from tests.models.packs import mesh_of
from tests.training.runs import batches, small_run


@pytest.fixture(scope="module")
def alone():
    """Three steps on one device: the run and its metrics."""
    run = small_run()
    before = jax.device_get(run.state.parameters)
    frozen = jax.device_get(run.frozen)
    return run, run.train(*batches(3)), before, frozen


def same_parameters(found, expected, atol):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=atol)


def test_the_first_update_changes_nothing_later_ones_do_and_what_is_frozen_stays(alone):
    run, metrics, before, frozen = alone
    assert metrics[0].update_norm == 0 and metrics[1].update_norm > 0
    assert int(run.state.step) == 3
    moved = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(run.state.parameters),
                                                      strict=True)]
    assert sum(moved) > 20
    jax.tree.map(np.testing.assert_array_equal, frozen, jax.device_get(run.frozen))


def test_norms_are_those_of_the_trained_parameters(alone):
    _, metrics, before, _ = alone
    squares = sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(before))
    np.testing.assert_allclose(metrics[0].parameter_norm, np.sqrt(squares), rtol=1e-6)


def test_the_loss_is_the_sum_of_its_terms(alone):
    for metrics in alone[1]:
        terms = metrics.sums["loss/reward"].mean() + 0.5 * metrics.sums["loss/reference"].mean()
        np.testing.assert_allclose(metrics.loss, terms, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [pytest.param(2, marks=pytest.mark.nightly), 4])
def test_accumulation_equals_one_large_batch(alone, parts):
    run = small_run(accumulation_steps=parts)
    metrics = run.train(*batches(3))
    for found, expected in zip(metrics, alone[1], strict=True):
        np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-6)
        np.testing.assert_allclose(found.gradient_norm, expected.gradient_norm, rtol=2e-5)
        assert found.sums.keys() == expected.sums.keys()
        for name, total in expected.sums.items():
            np.testing.assert_allclose(found.sums[name].total, total.total, rtol=1e-5, atol=1e-5, err_msg=name)
            assert found.sums[name].weight == total.weight
    same_parameters(run.state.parameters, alone[0].state.parameters, 2e-5)


@pytest.mark.slow
def test_accumulation_weighs_micro_batches_by_their_tokens():
    def thinned(batch):  # rows of the first micro-batch lose most of their loss tokens
        logit = np.array(batch.timestep_logit)
        logit[::2, 2:] = -np.inf
        return dataclasses.replace(batch, timestep_logit=logit)

    one, two = small_run(), small_run(accumulation_steps=2)
    found, expected = (run.train(*map(thinned, batches(2)))[-1] for run in (two, one))
    np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-6)
    np.testing.assert_allclose(found.gradient_norm, expected.gradient_norm, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "parts"), [((2, 4, 1, 1), 1), ((1, 2, 2, 2), 1), ((2, 2, 1, 1), 2)],
    ids=["data-fsdp", "fsdp-seq-tensor", "accumulated"],
)
def test_a_step_on_many_devices_equals_one_on_a_single_device(alone, shape, parts):
    run = small_run(*shape, accumulation_steps=parts)
    before = jax.tree.map(lambda leaf: leaf.sharding, run.state)
    metrics = run.train(*batches(3))
    for found, expected in zip(metrics, alone[1], strict=True):
        np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-6)
        np.testing.assert_allclose(found.gradient_norm, expected.gradient_norm, rtol=2e-5)
    same_parameters(run.state.parameters, alone[0].state.parameters, 2e-5)
    assert jax.tree.map(lambda leaf: leaf.sharding, run.state) == before, "the state ought to keep its layout"
    split = [leaf for leaf in jax.tree.leaves(run.state) if not leaf.sharding.is_fully_replicated]
    assert len(split) > 30, "parameters and moments ought to be sharded"


def test_the_state_is_donated(alone):
    run = alone[0]
    state = jax.tree.map(lambda leaf: jax.device_put(leaf, may_alias=False), run.state)
    run.of(state).train(batches(1)[0])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.parameters, state.optimizer)))
    assert run.step.memory_analysis().alias_size_in_bytes > 0


def test_a_batch_that_comes_again_gets_other_noise(alone):
    def loss_at(step):
        state = jax.tree.map(lambda leaf: jax.device_put(leaf, may_alias=False), alone[0].state)
        number = jax.device_put(np.asarray(step, np.int32), state.step.sharding)
        return alone[0].of(dataclasses.replace(state, step=number)).train(batches(1)[0])[0].loss

    assert loss_at(5) == loss_at(5) != loss_at(6)


def test_the_abstract_batch_is_that_of_the_pipeline(tmp_path):
    write_made_up(tmp_path)
    data, rows = settings(tmp_path)
    iterator = host_batches(tmp_path)
    real = next(iterator).batch
    iterator.close()
    experiment = Experiment("made_up", data=data, rows=rows)
    abstract = abstract_batch(experiment, FAMILY, MODEL, BagelForward(MODEL, experiment.compute), mesh_of(1, 1, 1, 1))
    assert jax.tree.structure(real) == jax.tree.structure(abstract)
    for a, b in zip(jax.tree.leaves(real), jax.tree.leaves(abstract), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_unknown_names_in_compute_are_refused():
    with pytest.raises(ValueError, match=r"compute\.remat: expected one of none, full"):
        ComputeConfig(remat="some")
