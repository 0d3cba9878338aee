"""The training command as two processes that share every step, as on two hosts."""

import contextlib
import signal
import socket

import numpy as np
import pytest

from tests.e2e.command import finish, lines, parameters, run, signal_when, start, steps

SETTINGS = ("data.rows_per_batch=4", "training.log_every=1", "training.save_every=2", "optimizer.warmup_steps=1",
            "optimizer.eps=1e-4")  # a large eps keeps rounding from deciding the sign of an update


@contextlib.contextmanager
def two_processes(workdir, *settings):
    """The two, killed at the latest when the block is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        start(workdir, *settings, distributed=True, JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
              JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(number))
        for number in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def run_as_two(workdir, *settings):
    """Exit codes and what both printed."""
    with two_processes(workdir, *settings) as processes:
        return [finish(process) for process in processes]


@pytest.mark.slow
def test_two_processes_train_like_one_and_their_checkpoint_is_resumed_by_one(tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    for code, _, err in run_as_two(together, *SETTINGS, "training.steps=4", "mesh.data=1", "mesh.fsdp=2"):
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
def test_the_tokens_of_a_row_may_run_across_two_processes(tmp_path):
    for code, _, err in run_as_two(tmp_path / "seq", *SETTINGS, "training.steps=2", "mesh.data=1", "mesh.seq=2"):
        assert code == 0, err
    for code, _, err in run_as_two(tmp_path / "data", *SETTINGS, "training.steps=2", "mesh.data=2"):
        assert code == 0, err
    for a, b in zip(lines(tmp_path / "seq"), lines(tmp_path / "data"), strict=True):
        np.testing.assert_allclose(a["loss/total"], b["loss/total"], rtol=1e-5)
        assert a["tokens/latent"] == b["tokens/latent"]


@pytest.mark.slow
def test_an_error_in_one_process_ends_both(tmp_path):
    # Both find that the records are damaged; neither may wait for the other.
    code, _, err = run(tmp_path, *SETTINGS, "training.steps=2")
    assert code == 0, err
    for shard in (tmp_path / "shapes" / "records").glob("*.tfrecord"):
        data = bytearray(shard.read_bytes())
        for place in range(500, len(data), 700):
            data[place] ^= 0xFF
        shard.write_bytes(data)
    ends = run_as_two(tmp_path, *SETTINGS, "training.steps=4", "mesh.data=2")
    assert all(code not in (0, None) for code, *_ in ends)
    assert any(": record " in err and "data.on_bad_record=skip" in err for *_, err in ends)


@pytest.mark.slow
def test_a_host_that_is_taken_away_stops_both_after_the_same_saved_step(tmp_path):
    with two_processes(tmp_path, *SETTINGS, "training.steps=100000", "mesh.data=2") as processes:
        first = signal_when(processes[1], lambda: steps(tmp_path), signal.SIGTERM)
        second = finish(processes[0])
    saved = steps(tmp_path)[-1]
    for code, out, err in (first, second):
        assert code == 0 and f"stopped as asked after step {saved}" in out, err
