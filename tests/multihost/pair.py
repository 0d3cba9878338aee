"""The training command as two processes that share every step, as on two hosts."""

import contextlib
import socket

from tests.e2e import training


@contextlib.contextmanager
def two_processes(workdir, *settings, of_second=(), devices=1, start=training.start, **options):
    """The two, killed at the latest when the block is left.

    Args:
      of_second: further settings of the second alone.
      start: begins one of them, see `training.start`; further options are its.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        start(workdir, *settings, *(of_second if number else ()), more=["--distributed"], devices=devices, env={
            "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number), "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"},
              **options)
        for number in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def run_as_two(workdir, *settings, **options):
    """Exit codes and what both printed."""
    with two_processes(workdir, *settings, **options) as processes:
        return [process.finish() for process in processes]
