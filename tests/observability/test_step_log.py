import logging
import time
from collections import Counter

import jax
import numpy as np
import pytest

from experiments.tiny import experiment
from srum_jax.data.config import DataConfig
from srum_jax.errors import Failure
from srum_jax.objectives.weighted_sum import WeightedSum
from srum_jax.observability.goodput import Goodput
from srum_jax.observability.metrics import MetricsWindow
from srum_jax.observability.profiling import Profiler
from srum_jax.observability.report import Report
from srum_jax.observability.step_log import StepLog, starvation
from srum_jax.observability.step_times import CHECKPOINT, DATA_WAIT
from srum_jax.overrides import apply_overrides
from srum_jax.training.batch_source import Drawn
from srum_jax.training.experiment import Experiment
from srum_jax.training.step import StepMetrics
from tests.observability.logged import events, lines

_PARTS = ("compute", "data_wait", "checkpoint", "other")


class Later:
    """A number that devices will have computed after some seconds."""

    def __init__(self, value, seconds):
        self.value, self.ready = value, time.monotonic() + seconds

    def block_until_ready(self):
        time.sleep(max(0.0, self.ready - time.monotonic()))
        return self

    def __array__(self, dtype=None, copy=None):
        self.block_until_ready()
        return np.asarray(self.value, np.float32)


def metrics(seconds=0.0, loss=1.0):
    tokens = {f"tokens/{kind}": WeightedSum(np.float32(50), np.float32(100)) for kind in ("text", "vit", "latent")}
    one = np.float32(1)
    return StepMetrics(Later(loss, seconds), one, one, one, tokens)


def loop(directory, *, steps, draw_seconds, step_seconds, save_seconds=0.0, save_every=1000, log_every=5, loss=1.0):
    """The training loop without a model."""
    settings = (f"training.steps={steps}", f"training.log_every={log_every}")
    chosen: Experiment = apply_overrides(experiment(), settings)
    goodput = Goodput(directory, time.monotonic())
    goodput.open(0)
    with (Report(directory, first_step=0, last_step=steps) as report,
          Profiler(directory, chosen.training, report.say) as profiler,
          StepLog(chosen, report, goodput, profiler, MetricsWindow(), jax.devices(), lambda host: 1e6) as log):
        for step in range(1, steps + 1):
            with log.span(DATA_WAIT):
                time.sleep(draw_seconds)
            log.hand_over(step)
            log.handed_over(step, metrics(step_seconds, loss), Drawn(None, None, ("a", "b")))
            if step % save_every == 0:
                log.settle()
                with log.span(CHECKPOINT):
                    time.sleep(save_seconds)
        log.settle()
        log.close(steps, finished=True)
    return lines(directory)


def test_a_run_that_starves_on_data_says_so_once(tmp_path, caplog):
    found = loop(tmp_path, steps=15, draw_seconds=0.05, step_seconds=0.0)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "waited for data during" in warnings[0] and "of steps 1 to 5" in warnings[0]
    for line in found[1:]:  # the first batch of all counts as start-up
        assert line["time/data_wait"] >= 0.04 and line["time/data_wait_share"] > 0.1


def test_data_that_is_ready_in_time_costs_nothing(tmp_path, caplog):
    found = loop(tmp_path, steps=6, draw_seconds=0.01, step_seconds=0.4, log_every=3)
    assert "waited for data" not in caplog.text
    for line in found:
        assert line["time/compute"] > 0.1 and line["time/data_wait_share"] < 0.1


def test_saving_is_seen_in_the_steps_behind_it_and_the_parts_add_up(tmp_path):
    first, second, third = loop(tmp_path, steps=6, draw_seconds=0.0, step_seconds=0.02, save_seconds=0.2, save_every=3,
                                log_every=2)
    assert first["time/checkpoint"] == 0 and second["time/checkpoint"] >= 0.1 and third["time/checkpoint"] == 0
    for line in (first, second, third):
        assert sum(line[f"time/{part}"] for part in _PARTS) == pytest.approx(line["time/step"])
    assert {name for _, name, _ in events(tmp_path)} >= {f"time/{part}" for part in _PARTS} | {"time/goodput"}


def test_the_last_line_accounts_for_the_whole_run(tmp_path, capsys):
    found = loop(tmp_path, steps=5, draw_seconds=0.0, step_seconds=0.1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("goodput ") and "since the run began" in last
    assert 0 < found[-1]["time/goodput"] <= 1


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_records(tmp_path):
    with pytest.raises(Failure, match=r"step 1: loss nan.*Records of this batch \(on this process\): a, b\."):
        loop(tmp_path, steps=3, draw_seconds=0.0, step_seconds=0.0, loss=np.nan)


def test_a_warning_names_the_share_that_was_waited_and_the_settings_that_help():
    data = DataConfig(num_workers=3, num_threads=5, prefetch=7)
    assert starvation(Counter(compute=95.0, data_wait=5.0), 10, 10, data) is None
    assert starvation(Counter(), 1, 1, data) is None, "steps that took no time"
    said = starvation(Counter(compute=50.0, data_wait=30.0, other=20.0), 20, 10, data)
    assert "waited for data during 30% of the time of steps 11 to 20 (3 s of 10 s a step)" in said
    assert "data.num_workers (now 3;" in said and "data.num_threads (now 5)" in said and "data.prefetch (now 7)" in said
    assert "process 0 " in said
