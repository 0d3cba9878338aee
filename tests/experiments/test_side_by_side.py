"""Processes next to each other: their cores, their failures, and what becomes of them when they are interrupted."""

import os
import signal
import subprocess
import sys
import time

import pytest

from experiments._tiny_study import work
from experiments._tiny_study.side_by_side import CommandError, available_cores, run_side_by_side, shares


def python(code, *words):
    return [sys.executable, "-c", code, *map(str, words)]


@pytest.mark.parametrize(("cores", "count", "expected"), [
    ([0, 1], 2, [[0], [1]]), ([0, 1], 1, [[0, 1]]), ([4, 5, 7], 2, [[4], [5, 7]]), ([3], 3, [[3], [3], [3]]),
    ([0, 1, 2, 3], 0, []),
])
def test_cores_are_shared_out_evenly(cores, count, expected):
    assert shares(cores, count) == expected


@pytest.mark.parametrize(("cores", "gib", "jobs"), [(3, 64, 3), (64, 64, 8), (64, 5, 2), (1, 0, 1)])
def test_jobs_keep_to_cores_and_memory(monkeypatch, cores, gib, jobs):
    monkeypatch.setattr(work, "available_cores", lambda: list(range(cores)))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1 << 12}.get(name, gib << 18))
    assert work.default_jobs() == jobs


def test_commands_run_at_the_same_time_each_on_its_cores(tmp_path):
    # Each waits for the other's file: one after the other, they would wait for ever.
    code = """import os, pathlib, sys, time
own, other = map(pathlib.Path, sys.argv[1:])
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
own.write_text(f"{os.environ['MARK']} {cores}")
last = time.monotonic() + 60
while not other.exists():
    assert time.monotonic() < last
    time.sleep(0.01)"""
    one, two, before = tmp_path / "one", tmp_path / "two", available_cores()
    run_side_by_side([python(code, one, two), python(code, two, one)], {"MARK": "here"})
    if hasattr(os, "sched_getaffinity"):
        assert [path.read_text() for path in (one, two)] == [f"here {share}" for share in shares(before, 2)]
    assert available_cores() == before


def test_a_failure_ends_the_others_and_is_named(tmp_path):
    slow = python("import time; time.sleep(600)")
    with pytest.raises(CommandError, match=r"-c .*ended with exit code 3; give the same command again"):
        run_side_by_side([slow, python("raise SystemExit(3)")])
    with pytest.raises(CommandError, match=r"ended with signal 9 \(Killed\), perhaps because memory ran out"):
        run_side_by_side([slow, python("import os; os.kill(os.getpid(), 9)")])


def test_no_commands_are_none():
    run_side_by_side([])


def test_an_interruption_is_passed_on_and_waited_for(tmp_path):
    tidy = f"""import pathlib, signal, sys, time
def tidy(*_):
    time.sleep(0.3)
    pathlib.Path({os.fspath(tmp_path)!r}, "tidied").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, tidy)
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path({os.fspath(tmp_path)!r}, "ready").touch()
time.sleep(600)"""
    outer = f"""from experiments._tiny_study.side_by_side import run_side_by_side
run_side_by_side([{python(tidy)!r}])"""
    process = subprocess.Popen(python(outer), stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said and (tmp_path / "tidied").exists()
