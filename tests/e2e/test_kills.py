"""A run that is killed over and over again ends like one that is not."""

import collections
import contextlib
import time

import numpy as np
import pytest

from tests.e2e.training import QUICK, lines, parameters, start, steps

_STEPS_A_KILL = 5  # more than one start makes
_SETTINGS = (*QUICK, "training.save_every=2", "training.log_every=1", "training.keep=2")
_DEADLINE_SECONDS = 120  # of one start


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.nightly)])
def test_kills_at_random_instants_change_neither_a_loss_nor_a_parameter(tmp_path, kills):
    whole, broken, num_steps = tmp_path / "whole", tmp_path / "broken", _STEPS_A_KILL * kills
    settings = (*_SETTINGS, f"training.steps={num_steps}")
    # A cache of its own, in which a kill may leave half an entry.
    cached = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    code, _, err = start(whole, *settings, env=cached).finish()
    assert code == 0, err

    draw, killed_in, said = np.random.default_rng(6), collections.Counter(), []
    # A third anywhere from the first instruction on, a third while steps are made and batches prepared, a third while
    # a checkpoint is being written in the background.
    for phase in draw.permutation(["start", "step", "save"] * (kills // 3)):
        process = start(broken, *settings, env=cached)
        logged, saved, left_behind = _num_lines(broken), steps(broken), _being_saved(broken)
        with _killed(process):
            if phase == "start":
                time.sleep(draw.uniform(0, 3))
            elif phase == "step":
                _wait(process, lambda before=logged: _num_lines(broken) > before)
                time.sleep(draw.uniform(0, 0.2))
            else:
                _wait(process, lambda before=saved: steps(broken) != before and _being_saved(broken))
                time.sleep(draw.uniform(0, 0.05))
            assert process.poll() is None, f"the run is over: {phase}, {killed_in}"
        said.append(process.finish().err)
        interrupted = _being_saved(broken) - left_behind
        killed_in["save" if interrupted else "step" if _num_lines(broken) != logged else "start"] += 1
    assert sum(killed_in.values()) == kills
    assert min(killed_in[phase] for phase in ("start", "step", "save")) >= kills // 12, killed_in

    before = steps(broken)[-1]
    assert before < num_steps
    code, _, err = start(broken, *settings, env=cached).finish()
    assert code == 0, err
    print(f"killed in {dict(killed_in)}, by then at step {before}")
    assert "DAMAGED" not in "".join([*said, err])
    assert lines(broken) == lines(whole)
    expected = parameters(whole, num_steps)
    for name, values in parameters(broken, num_steps).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@contextlib.contextmanager
def _killed(process):
    try:
        yield
    finally:
        process.kill()


def _wait(process, condition):
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _num_lines(workdir):
    log = workdir / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _being_saved(workdir):
    """The steps that are not complete, each as one folder and time."""
    found = set()
    for path in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"):
        with contextlib.suppress(FileNotFoundError):  # it is complete by now
            found.add((path.name, path.stat().st_ctime_ns))
    return found
