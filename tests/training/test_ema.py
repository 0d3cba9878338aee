import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from srum_jax.training.config import EmaConfig, OptimizerConfig
from srum_jax.training.ema import averaged
from srum_jax.training.optimizer import make_optimizer
from srum_jax.training.state import abstract_train_state, new_train_state, state_shardings
from tests.models.packs import mesh_of
from tests.training.runs import batches, small_run


def by_hand(parameters, decay, warmup=False, start_step=0):
    """The average after all of some updates; the first of `parameters` is what training starts from."""
    ema = np.asarray(parameters[0], np.float64)
    for update, new in enumerate(parameters[1:], 1):
        n = update - start_step
        if n <= 0:
            ema = np.asarray(new, np.float64)
            continue
        d = min(decay, (1 + n) / (10 + n)) if warmup else decay
        ema = d * ema + (1 - d) * new
    return ema


@pytest.mark.parametrize(("decay", "warmup", "start_step"),
                         list(itertools.product((0.5, 0.999), (False, True), (0, 1, 7))))
def test_the_average_is_that_of_a_loop_written_by_hand(decay, warmup, start_step):
    rng = np.random.default_rng(0)
    history = list(rng.normal(size=(30, 4, 3)).astype(np.float32))
    config = EmaConfig(decay, warmup, start_step)
    step = jax.jit(lambda ema, new, updates: averaged(ema, new, updates, config))
    ema = nnx.State({"w": nnx.Param(jnp.asarray(history[0]))})
    for update, new in enumerate(history[1:], 1):
        ema = step(ema, nnx.State({"w": nnx.Param(jnp.asarray(new))}), jnp.asarray(update))
        np.testing.assert_allclose(ema["w"][...], by_hand(history[: update + 1], decay, warmup, start_step),
                                   rtol=0, atol=2e-6)
        if update <= start_step:
            np.testing.assert_array_equal(ema["w"][...], new)


@pytest.mark.slow
def test_a_run_averages_its_parameters_where_they_lie():
    run = small_run(1, 2, 2, 2, ema=EmaConfig(0.9))
    history = [jax.device_get(run.state.parameters)]
    for batch in batches(4):
        run.train(batch)
        history.append(jax.device_get(run.state.parameters))
    history = [jax.tree.leaves(parameters) for parameters in history]
    moved = 0
    for i, (ema, parameter) in enumerate(zip(*map(jax.tree.leaves, (run.state.ema, run.state.parameters)),
                                             strict=True)):
        assert ema.sharding == parameter.sharding and ema.dtype == jnp.float32
        np.testing.assert_allclose(ema, by_hand([parameters[i] for parameters in history], 0.9), rtol=0, atol=1e-6)
        moved += not np.array_equal(ema, parameter)
    assert moved > 20


def test_without_it_there_is_no_state_and_with_it_a_copy_of_the_start():
    mesh = mesh_of(1, 2, 1, 1)
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    trained = nnx.State({"w": nnx.Param(jax.device_put(jnp.arange(8.0), sharding))})
    optimizer = make_optimizer(OptimizerConfig())
    without, with_ema = (new_train_state(trained, optimizer, mesh, with_ema=wanted) for wanted in (False, True))
    assert without.ema is None and len(jax.tree.leaves(with_ema)) == len(jax.tree.leaves(without)) + 1
    ema = with_ema.ema["w"][...]
    np.testing.assert_array_equal(ema, np.arange(8.0))
    assert ema.sharding == sharding
    for mine, its in zip(ema.addressable_shards, trained["w"][...].addressable_shards, strict=True):
        assert mine.data.unsafe_buffer_pointer() != its.data.unsafe_buffer_pointer(), "the step overwrites both"
    like = abstract_train_state(trained, optimizer, mesh, with_ema=True)
    assert jax.tree.structure(like) == jax.tree.structure(with_ema)
    assert jax.tree.map(lambda leaf: leaf.sharding, like) == state_shardings(with_ema)


@pytest.mark.parametrize(("fields", "message"), [
    ({"decay": 1.0}, r"ema\.decay: expected a number between 0 and 1, found 1\.0"),
    ({"decay": 0.0}, r"ema\.decay"), ({"decay": float("nan")}, r"ema\.decay"),
    ({"start_step": -1}, r"ema\.start_step: expected at least 0, found -1"),
])
def test_settings_that_average_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EmaConfig(**fields)
