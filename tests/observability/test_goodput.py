import dataclasses
import json
from collections import Counter

import pytest

from srum_jax.observability.goodput import COMPILE, GOODPUT_FILE, RESTORE, Goodput, Start, account, summary
from tests.faulty_bucket import ROOT


def start(began, first_step, step, finished=False, **seconds):
    names = {"start_up": "start-up"}
    found = Start(began, first_step, step, finished)
    found.seconds.update({names.get(name, name): value for name, value in seconds.items()})
    return found


def phases(*starts):
    return {name: seconds for name, seconds in account(starts).items() if seconds}


def test_one_start_is_what_it_says():
    assert phases(start(1000, 0, 10, start_up=5.0, compute=80.0, data_wait=15.0)) == {
        "start-up": 5.0, "compute": 80.0, "data_wait": 15.0}


def test_steps_that_were_done_again_and_the_time_between_two_starts_are_lost():
    found = phases(start(1000, 0, 10, start_up=10.0, compute=50.0), start(1090, 6, 20, restore=4.0, compute=70.0))
    # Steps 7 to 10 of the first start, four of ten; it was last heard of at 1060.
    assert found == {"start-up": 10.0, "compute": pytest.approx(100.0), "restore": 4.0,
                     "lost work": pytest.approx(20.0), "down": 30.0}
    assert sum(found.values()) == pytest.approx(1090 + 74 - 1000)


def test_a_start_that_goes_back_beyond_an_earlier_one_loses_work_of_both():
    # The second was restored from step 10, the third from step 5, because 10 was damaged.
    found = phases(start(0, 0, 12, compute=12.0), start(20, 10, 20, compute=10.0), start(40, 5, 30, compute=25.0))
    assert found["lost work"] == pytest.approx(7.0 + 10.0)
    assert found["compute"] == pytest.approx(5.0 + 25.0) and found["down"] == pytest.approx(8.0 + 10.0)


def test_the_time_after_a_complete_run_is_no_interruption():
    assert phases(start(0, 0, 10, True, compute=10.0), start(1e6, 10, 20, compute=10.0)) == {"compute": 20.0}


class Clock:
    now = 5000.0

    def __call__(self):
        return self.now


def run(directory, clock, *, began, first_step, steps, seconds=2.0, **options):
    """A start that is killed after its last log line."""
    goodput = Goodput(directory, began, clock=clock, date=options.pop("date", clock), **options)
    with goodput.phase(RESTORE):
        clock.now += 3
    goodput.open(first_step)
    with goodput.phase(COMPILE):
        clock.now += 20
    clock.now += 7
    goodput.steps_begin()
    for step in range(first_step + 1, first_step + steps + 1):
        goodput.add(Counter(compute=seconds, data_wait=0.5), step)
    goodput.write()
    return goodput


def test_a_start_goes_on_with_the_account_of_the_one_that_was_killed(tmp_path):
    clock = Clock()
    run(tmp_path, clock, began=clock.now, first_step=0, steps=8)
    clock.now = 5100.0  # killed at 5050
    second = run(tmp_path, clock, began=5090.0, first_step=4, steps=10)
    assert account([Start.from_line(line) for line in (tmp_path / GOODPUT_FILE).read_text().splitlines()]) == {
        # The second start was heard of first at 5100: ten seconds of start-up, and seven before the first step.
        "start-up": 7.0 + 17.0, "restore": 6.0, "compile": 40.0, "compute": 28.0, "data_wait": 9.0, "checkpoint": 0.0,
        "other": 0.0, "lost work": 8.0, "down": 40.0}
    assert second.share == pytest.approx(28.0 / 155.0)
    second.close(finished=True)
    assert second.summary() == (
        "goodput 18.1% of the 0:02:35 since the run began (2 starts); down 25.8%, compile 25.8%, start-up 15.5%, "
        "data wait 5.8%, lost work 5.2%, restore 3.9%")
    assert json.loads((tmp_path / GOODPUT_FILE).read_text().splitlines()[1])["finished"] is True


@pytest.mark.parametrize("hours", [6, -6])
def test_a_clock_that_is_set_while_a_start_runs_changes_no_duration(tmp_path, hours):
    clock, ahead = Clock(), [1e9]
    first = Goodput(tmp_path, clock.now - 2, clock=clock, date=lambda: clock.now + ahead[0])
    first.open(0)
    with first.phase(COMPILE):
        clock.now += 20
        ahead[0] += hours * 3600
    first.steps_begin()
    first.add(Counter(compute=50.0), 10)
    clock.now += 50
    first.write()
    assert first.share == pytest.approx(50 / 72)
    ahead[0] += clock.now + 40 - 7  # the machine was restarted, which takes 40 s: its clock begins anew
    clock.now = 7.0
    second = run(tmp_path, clock, began=7.0, first_step=10, steps=8, date=lambda: clock.now + ahead[0])
    found = phases(*[Start.from_line(line) for line in (tmp_path / GOODPUT_FILE).read_text().splitlines()])
    assert found["down"] == pytest.approx(40.0, abs=0.01) and found["compile"] == pytest.approx(40.0)
    assert sum(found.values()) == pytest.approx(72 + 40 + 50, abs=0.01)
    assert second.share == pytest.approx(66 / 162, abs=1e-4)


def test_a_clock_that_is_set_back_between_two_starts_adds_no_time():
    found = phases(start(1000, 0, 10, compute=50.0), start(900, 10, 20, compute=70.0))
    assert found == {"compute": 120.0}


def test_an_account_that_cannot_be_read_now_is_not_begun_anew(faulty):
    faulty.code = 503
    with pytest.raises(OSError, match="no backend"):
        Goodput(ROOT, 0.0).open(3)


@pytest.mark.parametrize("damage", ['{"began": 12', '{"began": 1, "seconds": {}}', "7", "\x00\x00",
                                    json.dumps(dataclasses.asdict(start(float("nan"), 0, 1)))])
def test_a_damaged_line_is_left_out_with_a_warning(tmp_path, caplog, damage):
    clock = Clock()
    run(tmp_path, clock, began=clock.now, first_step=0, steps=8)
    with (tmp_path / GOODPUT_FILE).open("a") as file:
        file.write(damage)
    second = run(tmp_path, clock, began=clock.now, first_step=8, steps=1)
    assert "1 of 2 lines are damaged" in caplog.text
    assert len((tmp_path / GOODPUT_FILE).read_text().splitlines()) == 2 and 0 < second.share < 1


def test_other_processes_write_nothing(tmp_path):
    run(tmp_path, Clock(), began=5000.0, first_step=0, steps=2, enabled=False).close(finished=True)
    assert not list(tmp_path.iterdir())


def test_a_bucket_gets_the_whole_file_now_and_then_and_at_the_end(bucket):
    clock = Clock()
    goodput = run(bucket, clock, began=clock.now, first_step=0, steps=2)
    assert Start.from_line((bucket / GOODPUT_FILE).read_text()).step == 0, "written at the start, and not again so soon"
    goodput.close(finished=False)
    assert Start.from_line((bucket / GOODPUT_FILE).read_text()).step == 2
    run(bucket, clock, began=clock.now, first_step=2, steps=2).close(finished=True)
    assert len((bucket / GOODPUT_FILE).read_text().splitlines()) == 2


def test_the_summary_leaves_out_what_was_not():
    assert summary({"compute": 3600.0, "down": 0.0}, 1) == "goodput 100.0% of the 1:00:00 since the run began"
