"""Runs commands as processes of this machine, side by side, each on its share of the processor cores.

A small model gains little from a second core; two models next to each other gain nearly all of it.
"""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from srum_jax.errors import Failure

_SECONDS_TO_TIDY_UP = 15.0  # training saves its state first; less than what this process itself is given
_SECONDS_BETWEEN_LOOKS = 0.1


class CommandError(Failure):
    """One of the commands failed, as its standard error says. `code`: its own; negative: the signal that ended it."""

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code, self.exit_code = code, 2 if code == 2 else 1


def run_side_by_side(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None, *, keep_open: Sequence[int] = ()
) -> None:
    """Runs commands at the same time, to their ends. If one fails, the others are ended too.

    They get no Ctrl-C of the terminal: what this process hears, it passes on as SIGTERM.

    Args:
      commands: programs with their arguments.
      environment: variables that are set for them besides those of this process.
      keep_open: file descriptors that they inherit, for instance of a lock.

    Raises:
      CommandError: a command ended with another exit code than 0, or by a signal.
      KeyboardInterrupt: after the commands have ended.
    """
    cores, running = available_cores(), []
    try:
        for command, share in zip(commands, shares(cores, len(commands)), strict=True):
            _keep_to(share)  # a new process has the cores of the thread that starts it
            running.append(subprocess.Popen(command, env=os.environ | dict(environment or {}),
                                            start_new_session=True, pass_fds=keep_open))
        _keep_to(cores)
        while None in (codes := [process.poll() for process in running]) and not any(codes):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if failed := next((process for process in running if process.returncode), None):
            raise CommandError(*_said(failed))
    finally:
        _keep_to(cores)
        _end(running)


def available_cores() -> list[int]:
    """Numbers of the processor cores that this process may use; made up where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def shares(cores: Sequence[int], count: int) -> list[list[int]]:
    """Splits cores evenly; with more shares than cores, each share is one core, some of them used twice."""
    if count >= len(cores):
        return [[cores[number % len(cores)]] for number in range(count)]
    ends = [len(cores) * number // max(count, 1) for number in range(count + 1)]
    return [list(cores[first:last]) for first, last in itertools.pairwise(ends)]


def _keep_to(cores: Sequence[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _said(failed: subprocess.Popen) -> tuple[str, int]:
    code = failed.returncode
    said = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
    if code == -signal.SIGKILL:
        said += ", perhaps because memory ran out (a smaller --jobs needs less)"
    return f"{' '.join(failed.args[:4])} ...: ended with {said}; give the same command again to go on.", code


def _end(running: Sequence[subprocess.Popen]) -> None:
    for process in running:
        process.terminate()
    last = time.monotonic() + _SECONDS_TO_TIDY_UP
    try:
        for process in running:
            process.wait(max(0.0, last - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:  # also after a second Ctrl-C: none outlives this process
        for process in running:
            process.kill()
            process.wait()
