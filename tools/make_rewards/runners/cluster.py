"""A stage on a Ray cluster: every worker does a share of the units. The folder of the run is one that all of them see.

A worker that is lost is replaced: its share goes on where the last committed unit ended.
"""

import sys
from collections.abc import Callable, Sequence

from srum_jax.errors import BadInput

_LOST_WORKERS = 5  # replacements of one share


class Cluster:
    """A connection to Ray, for the time of a run."""

    def __init__(self, run_stage: Callable[[str, Sequence[str]], int], num_workers: int, address: str | None = None,
                 **resources: float):
        """Connects, or starts a cluster on this machine.

        Args:
          run_stage: does a stage with these arguments in the process that calls it; returns the exit code.
          num_workers: that share a stage.
          address: of a cluster; None for one of this machine's cores alone, started for the run.
          **resources: that Ray reserves for a worker: num_cpus, num_gpus, num_tpus.

        Raises:
          BadInput: Ray is not installed, or the cluster is not found.
        """
        try:
            import ray
        except ImportError as error:
            raise BadInput(f"--runner ray: Ray is not installed ({error}); pip install 'srum-jax[ray]'."
                                ) from error
        self._ray, self._run_stage, self._num_workers = ray, run_stage, num_workers
        tpus = resources.pop("num_tpus", 0)
        self._resources = {"num_cpus": 1, **resources, **({"resources": {"TPU": tpus}} if tpus else {})}
        own = {"include_dashboard": False, "num_cpus": max(1, round(num_workers * self._resources["num_cpus"]))}
        try:
            ray.init(address=address or "local", **({} if address else own))
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BadInput(f"--ray-address {address}: no cluster can be reached ({error}).") from error

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
        ray, count = self._ray, self._num_workers
        # One call per worker process: its devices' memory is then free for the next stage.
        share = ray.remote(max_retries=_LOST_WORKERS, max_calls=1, **self._resources)(self._run_stage)
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
