import time

import jax
import pytest

from srum_jax import process_watch
from srum_jax.process_watch import ROUNDS_UNTIL_LOST, ROUNDS_WITHOUT_ANSWER, ProcessWatch

SIGNS, ENDS = "srum_jax/signs/", "srum_jax/ends/"


class _Service:
    """What the watches need of JAX's coordination service."""

    def __init__(self):
        self.values = {}
        self.gone = 0  # calls that get no answer
        self.calls = 0

    def key_value_set(self, key, value, allow_overwrite=False):
        self.calls += 1
        if self.gone:
            self.gone -= 1
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: Socket closed\nand more")
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]


class _EndedError(BaseException):
    pass


@pytest.fixture(autouse=True)
def ends(monkeypatch):
    """Exit codes, in place of the end of the tests."""
    codes = []

    def end(code):
        codes.append(code)
        raise _EndedError

    monkeypatch.setattr(process_watch, "_end", end)
    return codes


def _rounds(first, service, count, number=1):
    """Some rounds of process 0, in which one other process falls silent and the third does not."""
    for turn in range(count):
        service.key_value_set(f"{SIGNS}{3 - number}", str(time.monotonic_ns() + turn))
        first._look_for_silence()


def test_the_silent_process_is_named_to_all_after_thirty_seconds_and_not_before():
    service = _Service()
    first = ProcessWatch(service, 0, 3)
    service.values[f"{SIGNS}1"] = "7 process 1 of 3 on host-b"
    _rounds(first, service, ROUNDS_UNTIL_LOST)
    assert not service.key_value_dir_get(ENDS)
    _rounds(first, service, 1)
    assert service.key_value_dir_get(ENDS) == [
        (f"{ENDS}1", "1 process 1 of 3 on host-b is lost: no sign of life for 30 s (killed, out of memory, or its host "
         "is gone).")]


def test_a_process_that_never_gave_a_sign_is_lost_too():
    service = _Service()
    _rounds(ProcessWatch(service, 0, 3), service, ROUNDS_UNTIL_LOST, number=2)
    assert service.values[f"{ENDS}2"].startswith("1 process 2 of 3 is lost")


def test_the_silence_of_a_process_whose_work_is_done_means_nothing(ends):
    service = _Service()
    for number in (0, 1):
        watch = ProcessWatch(service, number, 2, round_seconds=0.01)
        watch.start()
        watch.close()
    first = ProcessWatch(service, 0, 2)
    for _ in range(2 * ROUNDS_UNTIL_LOST):
        first._look_for_silence()
    assert not service.key_value_dir_get(ENDS) and not ends


def test_a_process_that_ends_by_an_error_takes_the_others_with_it_and_its_exit_code(capsys, ends):
    service = _Service()
    with pytest.raises(_EndedError):
        ProcessWatch(service, 1, 2).abandon(2, ValueError("mesh.fsdp:\n  expected 2"))
    with pytest.raises(_EndedError):
        ProcessWatch(service, 0, 2)._watch()
    assert ends == [2, 2]
    err = capsys.readouterr().err
    assert err.startswith("error: process 1 of 2 on ") and "ended: ValueError: mesh.fsdp: expected 2\n" in err
    assert "process 0 of 2 on " in err and "cannot go on" in err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_comes_of_another_process_is_not_blamed_on_the_one_that_sees_it(ends, capsys):
    service = _Service()
    watch = ProcessWatch(service, 1, 2, round_seconds=0.01)
    watch.start()
    error = RuntimeError("a checkpoint cannot be written")
    error.__cause__ = ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    service.values[f"{ENDS}0"] = "1 process 0 of 2 on host-a ended: DataError: record 3"
    with pytest.raises(_EndedError):  # the thread ends the process first, if it is a real one
        watch.abandon(1, error)
    err = capsys.readouterr().err
    assert "finding out whether another process is gone" in err
    assert "process 0 of 2 on host-a ended: DataError: record 3" in err


def test_without_process_0_nothing_can_go_on(ends, capsys):
    service = _Service()
    service.gone = ROUNDS_WITHOUT_ANSWER
    with pytest.raises(_EndedError):
        ProcessWatch(service, 1, 2, round_seconds=0.01)._watch()
    assert ends == [1]
    assert "process 0 of 2, where all of them meet, does not answer any more (UNAVAILABLE" in capsys.readouterr().err


def test_a_connection_that_breaks_for_a_moment_again_and_again_ends_nobody(ends):
    service = _Service()
    watch = ProcessWatch(service, 1, 2, round_seconds=0.01)
    watch.start()
    for _ in range(3):
        service.gone, before = ROUNDS_WITHOUT_ANSWER - 1, service.calls
        while service.calls < before + ROUNDS_WITHOUT_ANSWER + 2:
            assert watch._thread.is_alive()
            time.sleep(0.01)
    watch._done.set()
    watch._thread.join()
    service.gone = ROUNDS_WITHOUT_ANSWER - 1
    watch.close()
    assert not ends and service.values[f"{SIGNS}1"] == "left"
