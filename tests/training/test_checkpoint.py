import contextlib
import dataclasses
import errno
import json
import os
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
import pytest
import tensorstore
from etils import epath
from flax import nnx

from srum_jax.errors import BadInput
from srum_jax.training import checkpoint as checkpoint_module
from srum_jax.training.checkpoint import CheckpointError, Checkpoints, _absolute
from srum_jax.training.config import EmaConfig, LoraConfig
from srum_jax.training.state import TrainState
from srum_jax.weights.orbax_params import OrbaxArrays
from srum_jax.weights.run_folder import find_step
from tests.faulty_bucket import ROOT
from tests.training.runs import batches, small_run

HOST = {"data": {"next_row": 16, "records": "abc"}, "metrics": {"values": {"loss": 0.1 + 0.2}}}


@pytest.fixture(scope="module")
def run():
    """A state on eight devices, with moments that are not zero."""
    run = small_run(2, 4, 1, 1)
    rng = np.random.default_rng(0)

    def filled(leaf):
        values = rng.normal(size=leaf.shape).astype(leaf.dtype) if leaf.ndim else np.asarray(2, leaf.dtype)
        return jax.device_put(values, leaf.sharding)

    return dataclasses.replace(run, state=dataclasses.replace(
        run.state, optimizer=jax.tree.map(filled, run.state.optimizer)))


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """A directory with steps 1 and 2, not to be changed."""
    directory = tmp_path_factory.mktemp("written") / "checkpoints"
    with Checkpoints(directory, keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, _at(run.state, step), HOST | {"of": step}, {"name": "x", "seed": 1})
    return directory


@pytest.fixture
def saved(written, tmp_path):
    """A copy of it, for one test."""
    return shutil.copytree(written, tmp_path / "checkpoints")


def _at(state, step):
    number = jax.device_put(np.asarray(step, np.int32), state.step.sharding)
    return TrainState(number, state.parameters, state.optimizer)


def test_everything_comes_back_exactly(run, saved):
    with Checkpoints(saved, keep=3) as checkpoints:
        assert checkpoints.latest == 2
        restored = checkpoints.restore(abstract(run.state))
    assert restored.step == 2 and restored.host == HOST | {"of": 2}
    equal(restored.state, _at(run.state, 2))
    for a, b in zip(jax.tree.leaves(restored.state), jax.tree.leaves(run.state), strict=True):
        assert a.sharding == b.sharding


@pytest.mark.slow
def test_a_restored_state_can_be_trained_on(run, saved):
    with Checkpoints(saved, keep=3) as checkpoints:
        again = run.of(checkpoints.restore(abstract(run.state)).state)
    expected = run.of(jax.tree.map(lambda leaf: jax.device_put(leaf, may_alias=False), _at(run.state, 2)))
    one, other = (each.train(*batches(1))[0] for each in (expected, again))
    assert one.loss == other.loss and one.gradient_norm == other.gradient_norm
    equal(again.state, expected.state)


@pytest.fixture(scope="module")
def averaging():
    """Factors of the expert with their average, after two steps on eight devices."""
    run = small_run(1, 2, 2, 2, lora=LoraConfig(rank=2), ema=EmaConfig(0.9))
    run.train(*batches(2))
    return run


@pytest.mark.slow
def test_factors_and_their_average_come_back_exactly_and_are_trained_on_as_if_nothing_had_happened(averaging, tmp_path):
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(2, averaging.state, {}, {})
        checkpoints.wait()
        restored = checkpoints.restore(abstract(averaging.state)).state
    equal(restored, averaging.state)
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, averaging.state)
    again = averaging.of(restored)
    expected = averaging.of(jax.tree.map(lambda leaf: jax.device_put(leaf, may_alias=False), averaging.state))
    for each in (again, expected):
        each.train(*batches(4)[2:])
    equal(again.state, expected.state)


def test_an_average_cannot_be_begun_or_dropped_on_the_way(tmp_path):
    parameters, number = nnx.State({"w": nnx.Param(jnp.ones(3))}), jnp.zeros((), jnp.int32)
    without = TrainState(number, parameters, {"n": jnp.ones(3)})
    keeping = dataclasses.replace(without, ema=parameters)
    for name, state, like, message in (
        ("a", without, keeping, r"a/1: holds no average of the parameters: the run was begun without ema.*--workdir"),
        ("b", keeping, without, r"b/1: holds an average of the parameters \(ema\), which this command does not keep"),
    ):
        with Checkpoints(tmp_path / name, keep=1) as checkpoints:
            checkpoints.save(1, state, {}, {})
            checkpoints.wait()
            equal(checkpoints.restore(abstract(state)).state, dataclasses.replace(state, step=jnp.ones((), jnp.int32)))
            with pytest.raises(CheckpointError, match=message):
                checkpoints.restore(abstract(like))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 2, 2)])
def test_another_mesh_is_restored_to(run, saved, shape):
    like = abstract(small_run(*shape).state)
    with Checkpoints(saved, keep=3) as checkpoints:
        restored = checkpoints.restore(like)
    equal(restored.state, _at(run.state, 2))
    for found, wanted in zip(jax.tree.leaves(restored.state), jax.tree.leaves(like), strict=True):
        assert found.sharding == wanted.sharding


def test_leaves_find_their_places_whatever_order_the_names_came_in(tmp_path):
    def tree(leaf):
        nested = {"b": {"z": leaf(1), "a": leaf(2)}, "a": {"10": leaf(3), "9": leaf(4)}, "Z": leaf(5), "a.b": leaf(6)}
        return nnx.State(nested)

    state = tree(lambda number: nnx.Param(jnp.full(3, float(number))))
    backwards = nnx.State(dict(reversed(list(nnx.to_pure_dict(state).items()))))
    number = jnp.zeros((), jnp.int32)
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(1, TrainState(number, state, {"nu": backwards, "mu": state}), {}, {})
        checkpoints.wait()
        like = abstract(TrainState(number, state, {"mu": state, "nu": backwards}))
        restored = checkpoints.restore(like).state
    for found in (restored.parameters, restored.optimizer["mu"], restored.optimizer["nu"]):
        assert jax.tree.map(lambda x: int(x[0]), nnx.to_pure_dict(found)) == {
            "b": {"z": 1, "a": 2}, "a": {"10": 3, "9": 4}, "Z": 5, "a.b": 6}


def test_large_arrays_are_stored_in_chunks_that_a_reader_can_hold(tmp_path, monkeypatch):
    assert checkpoint_module._CHUNK_BYTES == 256 * 2**20
    monkeypatch.setattr(checkpoint_module, "_CHUNK_BYTES", 4096)
    state = nnx.State({"w": nnx.Param(jnp.ones((256, 64)))})
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(1, TrainState(jnp.zeros((), jnp.int32), state, {"n": jnp.ones(3)}), {}, {})
    base = f"file://{tmp_path}/c/1/params"
    stored = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "ocdbt", "base": base}, "path": "w"}).result()
    assert np.prod(stored.chunk_layout.read_chunk.shape) * 4 <= 4096


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_step_that_cannot_be_written_is_an_error_and_leaves_the_ones_before(run, saved):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CheckpointError, match=r"a checkpoint cannot be written .*File too large"):
            with Checkpoints(saved, keep=3) as checkpoints:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
                checkpoints.save(3, _at(run.state, 3), {}, {})
                checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with Checkpoints(saved, keep=3) as checkpoints:
        assert checkpoints.latest == 2
        equal(checkpoints.restore(abstract(run.state)).state, _at(run.state, 2))


def test_only_the_newest_steps_are_kept(run, tmp_path):
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, _at(run.state, step), {}, {})
    assert sorted(int(path.name) for path in (tmp_path / "c").iterdir() if path.name.isdecimal()) == [3, 4]


def test_a_save_that_was_cut_short_is_no_step(run, saved):
    (saved / "3.orbax-checkpoint-tmp").mkdir()
    (saved / "3.orbax-checkpoint-tmp" / "params").mkdir()
    with Checkpoints(saved, keep=3) as checkpoints:
        assert checkpoints.latest == 2
        assert checkpoints.restore(abstract(run.state)).step == 2
        checkpoints.save(3, _at(run.state, 3), {}, {})
    with Checkpoints(saved, keep=3) as checkpoints:
        assert checkpoints.latest == 3


def _truncate(step):
    for path in (step / "params" / "d").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(step):
    for path in (step / "opt" / "d").iterdir():
        data = bytearray(path.read_bytes())
        for place in range(len(data) // 8, len(data), max(1, len(data) // 64)):
            data[place] ^= 0xFF
        path.write_bytes(bytes(data))


def _lose(step):
    for path in (step / "params" / "ocdbt.process_0" / "d").iterdir():
        path.unlink()
    for path in (step / "params" / "d").iterdir():
        path.unlink()


def _no_metadata(step):
    (step / "params" / "_METADATA").unlink()


def _broken_metadata(step):
    (step / "params" / "_METADATA").write_text("{")


def _no_opt(step):
    shutil.rmtree(step / "opt")


def _no_meta(step):
    shutil.rmtree(step / "meta")


# Orbax leaves readers behind that complain when they are collected.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [_truncate, _flip, _lose, _no_metadata, _broken_metadata, _no_opt, _no_meta])
def test_a_damaged_step_is_set_aside_with_a_warning_and_the_one_before_is_used(run, saved, damage, caplog):
    damage(saved / "2")
    with Checkpoints(saved, keep=3) as checkpoints:
        restored = checkpoints.restore(abstract(run.state))
        assert restored.step == 1 and checkpoints.latest == 1
        equal(restored.state, _at(run.state, 1))
        checkpoints.save(2, _at(run.state, 2), {}, {})
    (warning,) = [record.getMessage() for record in caplog.records if record.name == checkpoint_module.__name__]
    assert "step 2 is DAMAGED and lies in 2.damaged now. Going on from step 1" in warning
    assert "handler" not in warning and len(warning) < 700, "the cause, not who wrapped it"
    assert (saved / "2.damaged").is_dir() and find_step(saved).name == "2"
    with Checkpoints(saved, keep=3) as checkpoints:
        assert checkpoints.restore(abstract(run.state)).step == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_several_damaged_steps_are_set_aside_under_free_names_and_do_not_count_among_those_to_keep(run, saved):
    with Checkpoints(saved, keep=3) as checkpoints:
        checkpoints.save(3, _at(run.state, 3), {}, {})
    for step in (2, 3):
        _lose(saved / str(step))
    (saved / "3.damaged").mkdir()
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.restore(abstract(run.state)).step == 1
        checkpoints.save(2, _at(run.state, 2), {}, {})
    assert sorted(path.name for path in saved.iterdir()) == ["1", "2", "2.damaged", "3.damaged", "3.damaged-2"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_if_no_step_is_intact_the_newest_is_named_and_all_stay(run, saved):
    _no_metadata(saved / "1")
    _lose(saved / "2")
    message = r"checkpoints/2: step 2 cannot be restored .*nor one before it.*another --workdir"
    with Checkpoints(saved, keep=3) as checkpoints, pytest.raises(CheckpointError, match=message):
        checkpoints.restore(abstract(run.state))
    assert sorted(path.name for path in saved.iterdir()) == ["1", "2"]


def test_a_directory_that_cannot_be_written_to_is_an_error_before_any_work_is_done(saved):
    with pytest.raises(BadInput, match=r"meta: no checkpoint can be written here .*exists.*another --workdir"):
        Checkpoints(_a_file(saved.parent / "meta"), keep=3)
    saved.chmod(0o555)
    saved.parent.chmod(0o755)
    with _without_privileges(saved), pytest.raises(BadInput, match=r"no checkpoint can be written here .*denied"):
        Checkpoints(saved, keep=3)
    with pytest.raises(BadInput, match=r"no checkpoint can be written here .*No space left"):
        checkpoint_module._try_writing(_FullDisk(saved))


def _a_file(path):
    path.write_text("")
    return path


class _FullDisk(type(epath.Path())):
    def write_bytes(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _without_privileges(path):
    """Permissions do not bind root; whoever else runs the tests needs no change."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_models_step_is_refused(run, saved):
    like = abstract(run.state)
    wider = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*x.shape[:-1], 2 * x.shape[-1]), x.dtype, sharding=x.sharding) if x.ndim else x,
        like,
    )
    with Checkpoints(saved, keep=3) as checkpoints, pytest.raises(CheckpointError, match="another model or optimizer"):
        checkpoints.restore(wider)
    assert sorted(path.name for path in saved.iterdir()) == ["1", "2"], "nothing was damaged"


def test_the_weights_tools_read_the_parameters_without_restoring(run, saved):
    arrays = OrbaxArrays(find_step(saved.parent))
    name = "llm.layers.gen.query.kernel"
    np.testing.assert_array_equal(arrays.read(name), run.state.parameters.llm.layers.gen.query.kernel[...])
    assert not any(name.startswith("vae.") for name in arrays.shapes)


@pytest.mark.parametrize(("code", "kind"), [(401, BadInput), (403, BadInput), (503, OSError)])
def test_a_bucket_is_tried_too_and_an_outage_is_no_reason_for_another_work_directory(faulty, code, kind):
    faulty.code = code
    with pytest.raises(kind, match=f"{ROOT}/checkpoints"):
        Checkpoints(ROOT / "checkpoints", 3)


def test_the_settings_of_the_run_lie_in_the_checkpoint(saved):
    meta = ocp.load_checkpointables(saved / "2", {"meta": None})["meta"]
    assert json.loads(meta["experiment"]) == {"name": "x", "seed": 1}


def test_a_relative_directory_is_taken_from_where_the_command_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoints("runs/here/checkpoints", keep=1) as checkpoints:
        checkpoints.save(2, run.state, HOST, {})
        checkpoints.wait()
        assert checkpoints.latest == 2
    assert (tmp_path / "runs" / "here" / "checkpoints" / "2" / "params").is_dir()


def test_a_bucket_is_not_taken_for_a_relative_path():
    assert str(_absolute(epath.Path("gs://bucket/run"))) == "gs://bucket/run"
