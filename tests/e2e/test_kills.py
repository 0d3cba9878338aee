"""A run that is killed over and over again ends like one that is not."""

import collections
import contextlib
import shutil
import time

import numpy as np
import pytest

from tests.e2e.command import lines, parameters, steps
from tests.e2e.forked import fork_command

_STEPS, _KILLS = 60, 30
_SETTINGS = (f"training.steps={_STEPS}", "training.save_every=2", "training.log_every=1", "training.keep=2",
             "data.rows_per_batch=2")
_DEADLINE_SECONDS = 120  # of one start


@pytest.mark.slow
def test_thirty_kills_at_random_instants_change_neither_a_loss_nor_a_parameter(tmp_path):
    whole, broken, cache = tmp_path / "whole", tmp_path / "broken", tmp_path / "cache"
    assert _finish(fork_command(whole, cache, *_SETTINGS)) == 0, (tmp_path / "whole.log").read_text()
    broken.mkdir()
    shutil.copytree(whole / "shapes", broken / "shapes")

    draw, killed_in = np.random.default_rng(6), collections.Counter()
    # A third anywhere from the first instruction on, a third while steps are made and batches prepared, a third while
    # a checkpoint is being written in the background.
    for phase in draw.permutation(["start", "step", "save"] * (_KILLS // 3)):
        process = fork_command(broken, cache, *_SETTINGS)
        logged, saved, left_behind = _num_lines(broken), steps(broken), _being_saved(broken)
        with _killed(process):
            if phase == "start":
                time.sleep(draw.uniform(0, 5))
            elif phase == "step":
                _wait(process, lambda before=logged: _num_lines(broken) > before)
                time.sleep(draw.uniform(0, 0.2))
            else:
                _wait(process, lambda before=saved: steps(broken) != before and _being_saved(broken))
                time.sleep(draw.uniform(0, 0.05))
            assert process.is_alive(), f"the run is over: {phase}, {killed_in}"
        interrupted = _being_saved(broken) - left_behind
        killed_in["save" if interrupted else "step" if _num_lines(broken) != logged else "start"] += 1
    assert sum(killed_in.values()) == _KILLS and min(killed_in[phase] for phase in ("start", "step", "save")) >= 2, (
        killed_in)

    before = steps(broken)[-1]
    assert before < _STEPS
    assert _finish(fork_command(broken, cache, *_SETTINGS)) == 0, (tmp_path / "broken.log").read_text()
    print(f"killed in {dict(killed_in)}, by then at step {before}")
    assert "DAMAGED" not in (tmp_path / "broken.log").read_text()
    assert lines(broken) == lines(whole)
    expected = parameters(whole, _STEPS)
    for name, values in parameters(broken, _STEPS).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@contextlib.contextmanager
def _killed(process):
    try:
        yield
    finally:
        process.kill()  # SIGKILL
        process.join()


def _finish(process):
    with _killed(process):
        process.join(_DEADLINE_SECONDS)
        return process.exitcode


def _wait(process, condition):
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition() and process.is_alive():
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
