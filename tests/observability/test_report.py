import math
import time

import pytest

from srum_jax.observability import report as report_module
from srum_jax.observability.report import METRICS_FILE, Report
from srum_jax.storage import object_store
from tests.faulty_bucket import ROOT
from tests.observability.logged import events, events_of, lines


def test_floats_keep_all_their_digits_and_the_console_gets_one_line(tmp_path, capsys):
    values = {"loss/total": 0.1 + 0.2, "learning_rate": 2.5e-5, "loss_by_time/q0": 1 / 3}
    with Report(tmp_path, first_step=0, last_step=20) as report:
        report.advance(10)
        report.log(10, values)
    assert lines(tmp_path) == [{"step": 10} | values]
    printed = capsys.readouterr()
    assert printed.out == "step      10  loss 0.30000  lr 2.5e-05\n"
    assert printed.err == "", "no progress bar without a terminal"


def test_tensorboard_gets_every_value(tmp_path):
    with Report(tmp_path, first_step=0, last_step=20) as report:
        report.log(10, {"loss/total": 0.25, "speed/mfu": 0.5})
    assert events(tmp_path) == [(10, "loss/total", 0.25), (10, "speed/mfu", 0.5)]


def test_tensorboard_learns_of_the_format_and_of_the_start_and_hides_what_lies_behind_it(tmp_path):
    with Report(tmp_path, first_step=300, last_step=400) as report:
        report.log(310, {"a": math.inf, "b": math.nan, "c": 1e300, "d": -1e-3})
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert path.name.startswith("events.out.tfevents.") and path.name.endswith(".from_step_300")
    version, start, scalars = events_of(path)
    assert (version.file_version, start.step, start.session_log.status) == ("brain.Event:2", 301, 1)
    assert abs(scalars.wall_time - time.time()) < 60
    found = {value.tag: value.simple_value for value in scalars.summary.value}
    assert math.isnan(found.pop("b"))
    assert found == {"a": math.inf, "c": math.inf, "d": pytest.approx(-1e-3)}


def test_lines_behind_the_restored_step_are_dropped_and_a_torn_one_too(tmp_path):
    with Report(tmp_path, first_step=0, last_step=40) as report:
        for step in (10, 20, 30):
            report.log(step, {"loss/total": float(step)})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 4')
    with Report(tmp_path, first_step=20, last_step=40) as report:
        report.log(30, {"loss/total": 31.0})
    assert [(line["step"], line["loss/total"]) for line in lines(tmp_path)] == [(10, 10.0), (20, 20.0), (30, 31.0)]


def test_other_processes_write_nothing(tmp_path, capsys):
    with Report(tmp_path, first_step=0, last_step=20, enabled=False) as report:
        report.say("x")
        report.advance(1)
        report.log(10, {"loss/total": 1.0})
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


def test_times_are_on_the_console_in_short(tmp_path, capsys):
    with Report(tmp_path, first_step=0, last_step=20) as report:
        report.log(10, {"loss/total": 1.0, "time/step": 2.345, "time/data_wait_share": 0.123, "time/compute": 2.0})
    assert capsys.readouterr().out == "step      10  loss 1.00000  s/step 2.35  data wait 12%\n"


def test_a_bucket_gets_its_lines_before_a_checkpoint_and_at_the_end(bucket):
    with Report(bucket, first_step=0, last_step=40) as report:
        report.log(10, {"loss/total": 1.0})
        assert lines(bucket) == [], "not a write for each line"
        report.flush()
        (bucket / METRICS_FILE).write_text("")
        report.flush()
        assert lines(bucket) == [], "nothing is new"
        report._lines.append(b'{"step": 15}\n')
        report.flush()
        assert [line["step"] for line in lines(bucket)] == [10, 15] and events(bucket) == [(10, "loss/total", 1.0)]
        report.log(20, {"loss/total": 2.0})
    assert [line["step"] for line in lines(bucket)] == [10, 15, 20]
    assert events(bucket) == [(10, "loss/total", 1.0), (20, "loss/total", 2.0)]
    with Report(bucket, first_step=10, last_step=40) as report:
        assert [line["step"] for line in lines(bucket)] == [10], "what a resumed run does again is not there twice"
        report.log(20, {"loss/total": 3.0})
    assert [(line["step"], line["loss/total"]) for line in lines(bucket)] == [(10, 1.0), (20, 3.0)]


def test_a_bucket_gets_its_lines_from_time_to_time(bucket, monkeypatch):
    monkeypatch.setattr(report_module, "_SECONDS_BETWEEN_WRITES", 0.0)
    with Report(bucket, first_step=0, last_step=40) as report:
        report.log(10, {"loss/total": 1.0})
        assert [line["step"] for line in lines(bucket)] == [10]


def test_a_bucket_that_cannot_be_reached_for_a_while_does_not_end_the_run(bucket, monkeypatch, caplog):
    with Report(bucket, first_step=0, last_step=40) as report:
        report.log(10, {"loss/total": 1.0})
        with monkeypatch.context() as patched:
            patched.setattr(object_store, "put_file", _refused)
            report.flush()
        assert "cannot be written now (no route" in caplog.text
        report.flush()
        assert [line["step"] for line in lines(bucket)] == [10]


def test_a_disk_that_cannot_be_written_to_ends_the_run(tmp_path, monkeypatch):
    with Report(tmp_path, first_step=0, last_step=40) as report:
        monkeypatch.setattr(report._lines, "append", _refused)
        with pytest.raises(OSError, match="no route"):
            report.log(10, {"loss/total": 1.0})
        monkeypatch.undo()
    with Report(tmp_path, first_step=0, last_step=40) as report:
        monkeypatch.setattr(report._events, "close", _refused)
        with pytest.raises(OSError, match="no route"):
            report.close()
        monkeypatch.undo()


def _refused(*_, **__):
    raise OSError("no route")


@pytest.mark.parametrize("there", [False, True])
def test_lines_that_cannot_be_read_now_are_not_begun_anew(faulty, monkeypatch, there):
    if there:
        monkeypatch.setattr(report_module.object_store, "exists", lambda _: True)
    faulty.code = 503
    with pytest.raises(OSError, match="no backend"):
        Report(ROOT, first_step=3, last_step=5)
