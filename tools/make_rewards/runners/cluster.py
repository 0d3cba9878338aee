"""A stage on a Ray cluster: every worker does a share of the units. The folder of the run is one that all of them see.

A worker that is lost is replaced: its share goes on where the last committed unit ended.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

from srum_jax.errors import BadInput

_LOST_WORKERS = 5  # replacements of one share


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Which cluster, and how much of it."""

    num_workers: int
    address: str | None = None  # None: a cluster of this machine's cores alone, started for the run
    num_cpus: float = 1  # that Ray reserves for a worker
    num_gpus: float = 0
    num_tpus: float = 0

    def __post_init__(self):
        if self.num_workers < 1:
            raise BadInput(f"--num-workers: expected at least 1, found {self.num_workers}.")


class Cluster:
    """A connection to Ray, for the time of a run."""

    def __init__(self, config: ClusterConfig, run_stage: Callable[[str, Sequence[str]], int]):
        """Connects, or starts a cluster on this machine.

        Args:
          config: which, and how much of it.
          run_stage: does a stage with these arguments in the process that calls it; returns the exit code.

        Raises:
          BadInput: Ray is not installed, or the cluster is not found.
        """
        try:
            import ray
        except ImportError as error:
            raise BadInput(f"--runner ray: Ray is not installed ({error}); pip install 'srum-jax[ray]'."
                                ) from error
        self._ray, self.config, self._run_stage = ray, config, run_stage
        own = {"include_dashboard": False, "num_cpus": max(1, round(config.num_workers * config.num_cpus))}
        try:
            ray.init(address=config.address or "local", **({} if config.address else own))
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BadInput(f"--ray-address {config.address}: no cluster can be reached ({error}).") from error

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exception: object) -> None:
        self._ray.shutdown()

    def run_stage(self, stage: str, words: Sequence[str]) -> int:
        """Runs one stage on all workers.

        Args:
          stage: name of the subcommand.
          words: its arguments, without those that say which process it is.

        Returns:
          The worst exit code of all shares; 1 if a share lost too many workers.
        """
        config, ray = self.config, self._ray
        resources: dict[str, Any] = {"num_cpus": config.num_cpus, "num_gpus": config.num_gpus}
        if config.num_tpus:
            resources["resources"] = {"TPU": config.num_tpus}
        # One call per worker process: its devices' memory is then free for the next stage.
        share = ray.remote(max_retries=_LOST_WORKERS, max_calls=1, **resources)(self._run_stage)
        count = config.num_workers
        pending = {share.remote(stage, [*words, "--process-index", str(index), "--num-processes", str(count)]): index
                   for index in range(count)}
        codes = []
        while pending:
            (ended,), _ = ray.wait(list(pending), num_returns=1)
            index = pending.pop(ended)
            try:
                codes.append(ray.get(ended))
            except ray.exceptions.RayError as error:
                print(f"error: {stage}: share {index} of {count} cannot be finished: {str(error).splitlines()[0]} Give "
                      "the same command again to go on.", file=sys.stderr)
                codes.append(1)
        return max(codes)
