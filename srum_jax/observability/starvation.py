"""Says when the devices wait for data."""

import os

import jax

from srum_jax.data.config import DataConfig
from srum_jax.observability.step_times import StepSplit

SHARE = 0.1  # of the time between two log lines


class StarvationWatch:
    """Of one process over its own input. Says it once per start: scalars show how it goes on."""

    def __init__(self, data: DataConfig):
        self._data, self._said = data, False

    def look(self, split: StepSplit, step: int, num_steps: int) -> str | None:
        """A warning if data is what limits the speed.

        Args:
          split: of the steps since the last log line.
          step: the last of them.
          num_steps: how many there were.
        """
        if self._said or split.total <= 0 or split.data_wait / split.total <= SHARE:
            return None
        self._said = True
        data = self._data
        return (f"the devices of process {jax.process_index()} waited for data during "
                f"{split.data_wait / split.total:.0%} of the time of steps {step - num_steps + 1} to {step} "
                f"({split.data_wait / num_steps:.3g} s of {split.total / num_steps:.3g} s a step). More of it can be "
                f"prepared at once: data.num_workers (now {data.num_workers}; this host has {os.cpu_count()} CPUs), "
                f"data.num_threads (now {data.num_threads}), data.prefetch (now {data.prefetch}); give the same "
                "command again with other values. This is not said again; see time/data_wait_share.")
