import threading
from collections import Counter

import pytest

from srum_jax.observability import step_times
from srum_jax.observability.step_times import CHECKPOINT, DATA_WAIT, StepTimes, split_step


@pytest.mark.parametrize(
    "handed_over, end, spans, expected",
    [
        # Drawn and handed over while the devices still worked on the step before: nothing was waited for.
        (4.0, 20.0, [("data_wait", 1.0, 3.0)], Counter(compute=10.0)),
        # The devices were ready at 10, the batch at 13.
        (13.5, 20.0, [("data_wait", 8.0, 13.0)], Counter(compute=6.5, data_wait=3.0, other=0.5)),
        (15.0, 20.0, [("checkpoint", 10.5, 12.0), ("data_wait", 12.0, 14.0)],
         Counter(compute=5.0, data_wait=2.0, checkpoint=1.5, other=1.5)),
        # Computed before the call returned, as some backends do.
        (12.0, 12.0, [], Counter(other=2.0)),
    ],
)
def test_only_idle_time_is_split_by_what_the_loop_did(handed_over, end, spans, expected):
    found = split_step(10.0, handed_over, end, spans)
    assert found == expected
    assert found.total() == pytest.approx(end - 10.0)


class Devices:
    """Devices whose steps end when the test says so, and a clock that only the test moves."""

    def __init__(self):
        self.now = 100.0
        self.ends = []

    def clock(self):
        return self.now

    def step(self, error=None):
        ended = threading.Event()
        self.ends.append(ended)

        class Result:
            def block_until_ready(self):
                ended.wait(60)
                if error is not None:
                    raise error

        return Result()


def hand_over(times, devices, at, **step):
    devices.now = at
    times.hand_over()
    times.handed_over(devices.step(**step))


def end(times, devices, at):
    devices.now = at
    devices.ends.pop(0).set()
    return times.finish()


def test_a_step_is_timed_from_the_end_of_the_one_before():
    devices = Devices()
    with StepTimes(devices.clock) as times:
        with times.span(DATA_WAIT):
            devices.now += 50  # the first batch: not a matter of steps
        hand_over(times, devices, at=151.0)
        hand_over(times, devices, at=152.0)  # while the first is under way
        assert end(times, devices, at=155.0) == Counter(compute=4.0)
        assert end(times, devices, at=158.0) == Counter(compute=3.0)
        with times.span(CHECKPOINT):
            devices.now = 160.0
        with times.span(DATA_WAIT):
            devices.now = 164.0
        hand_over(times, devices, at=165.0)
        assert end(times, devices, at=170.0) == Counter(compute=5.0, checkpoint=2.0, data_wait=4.0, other=1.0)
        with times.span(CHECKPOINT):
            devices.now = 177.0
        assert times.finish_rest() == Counter(checkpoint=7.0)
        assert times.finish_rest() == Counter()


def test_a_failed_step_does_not_hold_up_the_loop_that_has_to_report_it():
    devices = Devices()
    with StepTimes(devices.clock) as times:
        hand_over(times, devices, at=101.0, error=RuntimeError("INTERNAL: lost"))
        assert end(times, devices, at=102.0) == Counter(compute=1.0)


def test_leaving_waits_for_the_thread_because_python_aborts_if_it_ends_before():
    devices = Devices()
    with StepTimes(devices.clock) as times:
        hand_over(times, devices, at=101.0)
        threading.Timer(0.2, devices.ends[0].set).start()
    assert not times._thread.is_alive()


def test_leaving_does_not_wait_for_ever_for_a_step_that_other_processes_take_part_in(monkeypatch):
    monkeypatch.setattr(step_times.jax, "process_count", lambda: 2)
    monkeypatch.setattr(step_times, "_PATIENCE_SECONDS", 0.1)
    devices = Devices()
    with StepTimes(devices.clock) as times:
        hand_over(times, devices, at=101.0)
    assert times._thread.is_alive()
    devices.ends[0].set()
    assert times.finish()["compute"] == 0.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_nobody_expected_does_not_hold_up_the_loop_either(monkeypatch):
    monkeypatch.setattr(step_times, "_LOOK_SECONDS", 0.05)
    devices = Devices()
    with StepTimes(devices.clock) as times:
        hand_over(times, devices, at=101.0, error=KeyError("unheard of"))
        devices.now = 102.0
        devices.ends.pop(0).set()
        times._thread.join()
        devices.now = 103.0
        assert times.finish() == Counter(compute=1.0), "noted when it was"
        hand_over(times, devices, at=103.0)
        assert end(times, devices, at=105.0) == Counter(compute=2.0, other=1.0), "nobody is left to note it"
