"""The training command as two processes that share every step, as on two hosts."""

import shutil
import signal
import time

import numpy as np
import pytest

from srum_jax.data.records_source import RecordsSource
from srum_jax.data.shuffle import shuffled_index
from tests.e2e.training import QUICK, lines, parameters, run, steps, with_shapes
from tests.multihost.pair import run_as_two, two_processes

SETTINGS = (*QUICK, "data.rows_per_batch=4", "training.log_every=1", "training.save_every=2")
SPLIT = ("mesh.data=1", "mesh.fsdp=2")  # rows and parameters: one step, compiled once, for most tests
LONG = (*SETTINGS, "training.steps=16", "training.save_every=4", "training.keep=20", *SPLIT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of both that nothing stopped, of 16 steps; not to be changed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    for code, _, err in run_as_two(workdir, *LONG):
        assert code == 0, err
    return workdir


def _ends(processes, within):
    """Seconds from the end of the first to that of the last, and what each wrote to standard error."""
    first = None
    while any(process.poll() is None for process in processes):
        if first is None and (len(processes) == 1 or any(process.poll() is not None for process in processes)):
            first = time.monotonic()
        assert first is None or time.monotonic() - first < within
        time.sleep(0.05)
    seconds = 0.0 if first is None else time.monotonic() - first
    return seconds, [process.finish() for process in processes]


@pytest.mark.slow
def test_two_processes_train_like_one_and_their_checkpoint_is_resumed_by_one(tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    for code, _, err in run_as_two(together, *SETTINGS, "training.steps=4", "mesh.data=2", "mesh.fsdp=2", "mesh.seq=2",
                                   devices=4):
        assert code == 0, err
    assert steps(together) == [2, 4]
    code, out, err = run(together, *SETTINGS, "training.steps=6")
    assert code == 0 and "restored from step 4" in out, err

    code, _, err = run(alone, *SETTINGS, "training.steps=6")
    assert code == 0, err
    found, expected = lines(together), lines(alone)
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            np.testing.assert_allclose(value, b[name], rtol=2e-4, atol=1e-7, err_msg=f"step {a['step']}, {name}")
    wanted = parameters(alone, 6)
    for name, values in parameters(together, 6).items():
        np.testing.assert_allclose(values, wanted[name], rtol=0, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_the_tokens_of_a_row_may_run_across_two_processes(whole, tmp_path):
    for code, _, err in run_as_two(tmp_path, *SETTINGS, "training.steps=2", "mesh.data=1", "mesh.seq=2"):
        assert code == 0, err
    for a, b in zip(lines(tmp_path), lines(whole)[:2], strict=True):
        np.testing.assert_allclose(a["loss/total"], b["loss/total"], rtol=1e-5)
        assert a["tokens/latent"] == b["tokens/latent"]


@pytest.mark.slow
def test_an_error_in_one_process_ends_both_within_seconds_and_the_other_names_it(tmp_path):
    folder = with_shapes(tmp_path) / "shapes" / "records"
    source = RecordsSource(folder)
    record = shuffled_index(5 * 8, len(source), 0, 0)  # the first of step 6: process 0 reads it, process 1 does not
    shard, payload = folder / source.file_of(record), source.read(record)
    shard.write_bytes(shard.read_bytes().replace(payload, payload[:-1] + bytes([payload[-1] ^ 0xFF])))
    with two_processes(tmp_path, *SETTINGS, "training.steps=100", *SPLIT) as processes:
        seconds, ((code, _, err), (other, _, told)) = _ends(processes, within=15)
    print(f"both ended within {seconds:.1f} s")
    assert code == other == 1
    assert f"{shard.name}: record " in err and "data.on_bad_record=skip" in err and "Traceback" not in err
    assert "error: process 0 of 2 on " in told and f"ended: DataError: {shard}: record " in told
    assert steps(tmp_path)[-1] in (2, 4)


@pytest.mark.slow
def test_settings_that_one_process_alone_cannot_use_end_both_with_2(tmp_path):
    with two_processes(tmp_path, *SETTINGS, of_second=("training.accumulation_steps=3",)) as processes:
        _, ((code, _, told), (other, _, err)) = _ends(processes, within=15)
    assert code == other == 2
    assert "data.rows_per_batch: expected a multiple of 6" in err
    assert "error: process 1 of 2 on " in told and "ended: BadInput: data.rows_per_batch" in told


@pytest.mark.slow
def test_a_killed_process_ends_the_other_within_a_minute_and_both_go_on_as_if_nothing_had_happened(whole, tmp_path):
    broken = tmp_path / "broken"
    for victim in (1, 0):
        before = steps(broken)
        with two_processes(broken, *LONG, module="tests.multihost.quick_to_miss") as processes:
            code, *_ = processes[victim].signal_when(lambda before=before: steps(broken) != before, signal.SIGKILL)
            assert code == -signal.SIGKILL
            seconds, [(code, _, err)] = _ends(processes[1 - victim :][:1], within=60)
        print(f"process {1 - victim} ended {seconds:.1f} s after process {victim} was killed")
        if victim == 1:
            assert code == 1 and "process 1 of 2 on " in err and " is lost" in err, err
        else:  # JAX itself aborts those that cannot reach process 0
            assert code != 0 and "leader" in err, err
        assert steps(broken)[-1] < 16

    for code, _, err in run_as_two(broken, *LONG):
        assert code == 0, err
    assert lines(broken) == lines(whole)
    wanted = parameters(whole, 16)
    for name, values in parameters(broken, 16).items():
        np.testing.assert_array_equal(values, wanted[name], err_msg=name)


@pytest.mark.slow
def test_damage_that_one_process_alone_meets_sends_both_to_the_step_before(whole, tmp_path):
    workdir = shutil.copytree(whole, tmp_path / "run")
    for path in (workdir / "checkpoints" / "16" / "params" / "ocdbt.process_1" / "d").iterdir():
        path.unlink()
    (code, out, err), (other, _, _) = run_as_two(workdir, *LONG, "training.steps=17")
    assert code == 0 and other == 0, err
    assert "restored from step 12" in out and "step 16 is DAMAGED and lies in 16.damaged now" in err
    assert steps(workdir)[-3:] == [12, 16, 17]


@pytest.mark.slow
def test_a_host_that_is_taken_away_stops_both_after_the_same_saved_step(tmp_path):
    with two_processes(tmp_path, *SETTINGS, "training.steps=100000", *SPLIT) as processes:
        first = processes[1].signal_when(lambda: steps(tmp_path), signal.SIGTERM)
        second = processes[0].finish()
    saved = steps(tmp_path)[-1]
    for code, out, err in (first, second):
        assert code == 0 and f"stopped as asked after step {saved}" in out, err
