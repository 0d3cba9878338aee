"""The host's side of the steps: metrics, checks, times and lines, one step behind the devices."""

import collections
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence

import jax

from srum_jax.data.config import DataConfig
from srum_jax.data.example import Batch
from srum_jax.errors import Failure
from srum_jax.observability.device_memory import memory_in_use
from srum_jax.observability.goodput import Goodput
from srum_jax.observability.metrics import MetricsWindow, is_finite
from srum_jax.observability.peak_flops import peak_flops
from srum_jax.observability.profiling import Profiler
from srum_jax.observability.report import Report
from srum_jax.observability.step_times import DATA_WAIT, PARTS, Split, StepTimes
from srum_jax.training.batch_source import Drawn
from srum_jax.training.experiment import Experiment
from srum_jax.training.optimizer import learning_rate_schedule
from srum_jax.training.step import StepMetrics

_LOG = logging.getLogger(__name__)
_STARVING = 0.1  # of the time between two log lines


class StepLog:
    """Follows the steps of a loop. Within `hand_over` nothing waits for the newest step; `settle` does."""

    def __init__(self, experiment: Experiment, report: Report, goodput: Goodput, profiler: Profiler,
                 window: MetricsWindow, devices: Sequence[jax.Device], flops_of: Callable[[Batch], float]):
        """Begins with the next step.

        Args:
          experiment: that is run.
          report: where lines go.
          goodput: of the run.
          profiler: of the run.
          window: metrics of the log interval that is under way.
          devices: of all processes.
          flops_of: model FLOPs of a step, over all processes, by the batch of this one.
        """
        self._every, self._report, self._window = experiment.training.log_every, report, window
        self._rate = learning_rate_schedule(experiment.optimizer)
        self._flops_of, self._peak = flops_of, peak_flops(list(devices))
        self._own_devices = [device for device in devices if device.process_index == jax.process_index()]
        self._goodput, self._profiler = goodput, profiler
        # Rollouts are no data that somebody waits for.
        self._data, self._said_starving = experiment.data, experiment.rollouts is not None
        self._said_limits: set[str] = set()
        self._times = StepTimes()
        self._pending: tuple[int, StepMetrics, Drawn] | None = None
        self._begin_interval()
        self._begun = False

    def _begin_interval(self) -> None:
        self._split: Split = collections.Counter()
        self._num_steps, self._flops, self._tokens = 0, 0.0, 0.0

    def __enter__(self) -> "StepLog":
        self._times.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._times.__exit__(*error)

    def span(self, part: str) -> contextlib.AbstractContextManager:
        """See `StepTimes.span`."""
        return self._times.span(part)

    def hand_over(self, step: int) -> None:
        """Right before a step is given to the devices."""
        if not self._begun:
            self._goodput.steps_begin()
            self._begun = True
        self._profiler.hand_over(step)
        self._times.hand_over()

    def handed_over(self, step: int, metrics: StepMetrics, drawn: Drawn) -> None:
        """Notes a step that the devices are working on, and reads the one before.

        Args:
          step: its number.
          metrics: on the devices.
          drawn: its batch; of the devices' part nothing is kept.
        """
        self._times.handed_over(metrics.loss)
        previous, self._pending = self._pending, (
            step, metrics, dataclasses.replace(drawn, batch=None))
        if previous is not None:
            self._take(*previous)

    def settle(self) -> None:
        """Waits for the newest step."""
        if self._pending is not None:
            self._take(*self._pending)
            self._pending = None

    def close(self, step: int, *, finished: bool) -> None:
        """Ends the account of time.

        Args:
          step: updates done.
          finished: whether these are all.
        """
        self._goodput.add(self._times.finish_rest(), step)
        self._goodput.close(finished=finished)
        self._report.say(self._goodput.summary())

    def _take(self, step: int, metrics: StepMetrics, drawn: Drawn) -> None:
        metrics = jax.device_get(metrics)
        if not is_finite(metrics):
            records = ", ".join(drawn.names)
            raise Failure(
                f"step {step}: loss {float(metrics.loss)}, gradient norm {float(metrics.gradient_norm)}, update norm "
                f"{float(metrics.update_norm)}: not finite. "
                f"Records of this batch (on this process): {records}. No checkpoint holds this step; look at these "
                "records, or lower optimizer.learning_rate."
            )
        split = self._times.finish()
        self._goodput.add(split, step)
        self._split.update(split)
        self._num_steps += 1
        self._check_limits(step, metrics, drawn)
        self._window.add(metrics, drawn.sums)
        self._flops += self._flops_of(drawn.host)
        self._tokens += sum(
            float(count.total) for name, count in metrics.sums.items()
            if name.startswith("tokens/") and name != "tokens/padding")
        self._report.advance(step)
        self._profiler.finished(step)
        if step % self._every == 0:
            self._log(step)

    def _check_limits(self, step: int, metrics: StepMetrics, drawn: Drawn) -> None:
        for name, limit in drawn.at_most.items():
            found = metrics.sums.get(name)
            if found is None or float(found.total) <= limit * float(found.weight) or name in self._said_limits:
                continue
            self._said_limits.add(name)  # once: scalars show how it goes on
            _LOG.warning("step %d: %s is %.3g, expected at most %.3g: the step does not compute what was measured "
                         "before it. Try compute.dtype=float32; if it is no rounding, this is a fault: report it.",
                         step, name, float(found.total) / float(found.weight), limit)

    def _log(self, step: int) -> None:
        if not self._said_starving and (said := starvation(self._split, step, self._num_steps, self._data)):
            _LOG.warning("%s", said)
            self._said_starving = True  # scalars show how it goes on
        values = self._window.summary() | {"learning_rate": float(self._rate(step - 1))} | self._speed()
        self._report.log(step, values | memory_in_use(self._own_devices))
        self._goodput.write()
        self._profiler.look_for_request(step)
        self._begin_interval()

    def _speed(self) -> dict[str, float]:
        split, seconds = self._split, self._split.total()
        values = {
            "speed/tokens_per_second": self._tokens / seconds,
            "speed/model_flops_per_second": self._flops / seconds,
        }
        if self._peak is not None:
            values["speed/mfu"] = self._flops / seconds / self._peak
        values |= {f"time/{part}": split[part] / self._num_steps for part in PARTS}
        values["time/step"] = seconds / self._num_steps
        return values | {"time/data_wait_share": split[DATA_WAIT] / seconds, "time/goodput": self._goodput.share}


def starvation(split: Split, step: int, num_steps: int, data: DataConfig) -> str | None:
    """A warning if the input of this process is what limits the speed.

    Args:
      split: of the steps since the last log line.
      step: the last of them.
      num_steps: how many there were.
      data: settings that might help.
    """
    seconds, waited = split.total(), split[DATA_WAIT]
    if seconds <= 0 or waited / seconds <= _STARVING:
        return None
    return (f"the devices of process {jax.process_index()} waited for data during {waited / seconds:.0%} of the time "
            f"of steps {step - num_steps + 1} to {step} ({waited / num_steps:.3g} s of {seconds / num_steps:.3g} s a "
            f"step). More of it can be prepared at once: data.num_workers (now {data.num_workers}; this host has "
            f"{os.cpu_count()} CPUs), data.num_threads (now {data.num_threads}), data.prefetch (now {data.prefetch}); "
            "give the same command again with other values. This is not said again; see time/data_wait_share.")
