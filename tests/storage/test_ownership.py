"""One work directory, one owner: on a disk and in a bucket, and after a kill."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from srum_jax.errors import BadInput
from srum_jax.storage import object_store, ownership
from srum_jax.storage.ownership import OWNER_FILE, Owner, owned
from tests.faulty_bucket import ROOT
from tests.storage.owners import HOLD, holder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(ownership, "_SECONDS_BETWEEN_RENEWALS", 0.06)
    monkeypatch.setattr(ownership, "_SECONDS_OF_A_LEASE", 0.5)


def test_a_second_run_on_a_disk_is_refused_with_host_and_process(tmp_path):
    with holder(tmp_path) as process:
        with pytest.raises(BadInput) as error, owned(tmp_path):
            raise AssertionError("both own it")
        assert f"process {process.pid} on {socket.gethostname()}" in str(error.value)
        assert str(tmp_path / OWNER_FILE) in str(error.value)
        assert (tmp_path / OWNER_FILE).exists(), "the refused one leaves the owner's file alone"


def test_a_killed_owner_on_a_disk_blocks_nobody(tmp_path):
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / OWNER_FILE).exists()
        with owned(tmp_path):
            assert Owner.read((tmp_path / OWNER_FILE).read_bytes()).process == os.getpid()


def test_a_child_that_outlives_its_killed_parent_does_not_hold_the_lock(tmp_path):
    code = HOLD.replace("    print(", "    import os\n    child = os.fork()\n"
                         "    child or time.sleep(60)\n    print(child, flush=True)\n    print(")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        with owned(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_nothing_is_left_when_it_is_given_back(tmp_path):
    with owned(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [OWNER_FILE]
    assert not list(tmp_path.iterdir())


def test_of_many_that_start_at_once_one_is_the_owner(tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        spans = [span for spans in pool.map(_spans, [tmp_path] * 4) for span in spans]
    assert len(spans) >= 1
    ordered = sorted(spans)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(ordered))


def _spans(directory):
    spans = []
    for _ in range(50):
        with contextlib.suppress(BadInput), owned(directory):
            began = time.monotonic()
            time.sleep(0.001)
            spans.append((began, time.monotonic()))
    return spans


def test_a_disk_without_locks_gets_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(ownership.errno.ENOTSUP, "not supported")

    monkeypatch.setattr(ownership.fcntl, "lockf", refuse)
    with owned(tmp_path):
        assert "has no locks" in caplog.text and not (tmp_path / OWNER_FILE).exists()


def test_a_second_run_in_a_bucket_is_refused_once_the_owner_is_seen_to_live(faulty, quick):
    with owned(ROOT), pytest.raises(BadInput, match=f"process {os.getpid()} on"), owned(ROOT):
        raise AssertionError("both own it")
    assert not object_store.exists(ROOT / OWNER_FILE)


def test_a_lease_that_nobody_renews_ends(faulty, quick):
    elsewhere = Owner("far", 7, "then", "another machine", "x")
    object_store.put_bytes(ROOT / OWNER_FILE, elsewhere.to_bytes())
    began = time.monotonic()
    with owned(ROOT):
        assert Owner.read(object_store.read_bytes(ROOT / OWNER_FILE)).process == os.getpid()
    assert time.monotonic() - began >= 0.5


def test_the_lease_of_a_dead_process_of_this_machine_ends_at_once(faulty):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine = Owner.this_process()
    object_store.put_bytes(ROOT / OWNER_FILE, Owner("here", gone.pid, "then", mine.machine, "x").to_bytes())
    began = time.monotonic()
    with owned(ROOT):
        assert time.monotonic() - began < 10


def test_an_owner_that_lost_its_lease_is_ended(faulty, quick, monkeypatch):
    told = threading.Event()
    reasons = []

    def end(reason):
        reasons.append(reason)
        told.set()

    monkeypatch.setattr(ownership, "_end_process", end)
    with owned(ROOT):
        other = Owner("far", 7, "then", "another machine", "x")
        object_store.put_bytes(ROOT / OWNER_FILE, other.to_bytes())
        assert told.wait(10) and "process 7 on far" in reasons[0]
    assert Owner.read(object_store.read_bytes(ROOT / OWNER_FILE)) == other, "the other one's lease is left alone"
