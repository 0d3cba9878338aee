"""What a run says about itself while it goes on."""

import logging
import time

import pytest

from experiments.tiny import experiment, prepare
from srum_jax.data.pipeline import RowSource
from srum_jax.observability.goodput import GOODPUT_FILE, Start
from srum_jax.overrides import apply_overrides
from srum_jax.training.loop import train
from tests.e2e.training import SMALL_PICTURES
from tests.observability.logged import events, lines

_SETTINGS = ("training.steps=8", "training.log_every=2", "training.save_every=4", "training.profile_first_step=3",
             "training.profile_steps=2", "data.num_threads=1", "data.prefetch=1", "mesh.data=8", *SMALL_PICTURES)


@pytest.mark.slow
def test_a_run_with_slow_storage_says_that_it_starves_and_what_helps(tmp_path, monkeypatch, caplog, capsys):
    read = RowSource.row

    def slow_row(self, number):
        time.sleep(0.12)  # eight rows a step, one after the other
        return read(self, number)

    chosen = prepare(apply_overrides(experiment(), _SETTINGS), tmp_path)
    monkeypatch.setattr(RowSource, "row", slow_row)
    train(chosen, tmp_path)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    said = [line for line in said if "waited for data" in line]
    assert len(said) == 1 and "data.num_workers (now 0;" in said[0] and "data.prefetch (now 1)" in said[0]

    found = lines(tmp_path)
    assert [line["step"] for line in found] == [2, 4, 6, 8]
    parts = [f"time/{name}" for name in ("compute", "data_wait", "checkpoint", "other")]
    for line in found:
        assert sum(line[name] for name in parts) == pytest.approx(line["time/step"])
    assert found[2]["time/checkpoint"] > 0 and found[-1]["time/data_wait_share"] > 0.1
    assert {name for _, name, _ in events(tmp_path)} >= {*parts, "time/step", "time/goodput", "time/data_wait_share"}
    assert (tmp_path / "profile/plugins/profile/step_3/process_0.xplane.pb").exists()

    start = Start.from_line((tmp_path / GOODPUT_FILE).read_text())
    assert start.finished and start.step == 8 and start.seconds["compile"] > 0 and start.seconds["checkpoint"] > 0
    assert "data wait" in capsys.readouterr().out.splitlines()[-2]
