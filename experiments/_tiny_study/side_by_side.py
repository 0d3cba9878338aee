"""Runs commands as processes of this machine, side by side, each on its share of the processor cores.

A small model gains little from a second core; two models next to each other gain nearly all of it.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

from srum_jax.errors import Failure

_SECONDS_TO_TIDY_UP = 15.0  # training saves its state first; less than what this process itself is given
_SECONDS_BETWEEN_LOOKS = 0.1


class CommandError(Failure):
    """One of the commands failed; what it was is on its standard error.

    Attributes:
      code: its exit code; negative: the signal that ended it.
    """

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
    running: list[subprocess.Popen] = []
    try:
        for command, cores in zip(commands, shares(available_cores(), len(commands)), strict=True):
            with _on_cores(cores):  # a new process has the cores of the thread that starts it
                running.append(subprocess.Popen(command, env=os.environ | dict(environment or {}),
                                                start_new_session=True, pass_fds=keep_open))
        while any(process.poll() is None for process in running):
            _raise_if_failed(running)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        _raise_if_failed(running)
    finally:
        _end(running)


def available_cores() -> list[int]:
    """Numbers of the processor cores that this process may use; made up where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def shares(cores: Sequence[int], count: int) -> list[list[int]]:
    """Splits cores evenly; with more shares than cores, each share is one core, some of them used twice."""
    if not count or count >= len(cores):
        return [[cores[number % len(cores)]] for number in range(count)]
    ends = [len(cores) * number // count for number in range(count + 1)]
    return [list(cores[first:last]) for first, last in itertools.pairwise(ends)]


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _raise_if_failed(running: Sequence[subprocess.Popen]) -> None:
    for process in running:
        code = process.poll()
        if code:
            said = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
            if code == -signal.SIGKILL:
                said += ", perhaps because memory ran out (a smaller --jobs needs less)"
            command = " ".join(process.args[:4])
            raise CommandError(f"{command} ...: ended with {said}; give the same command again to go on.", code)


def _end(running: Sequence[subprocess.Popen]) -> None:
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    last = time.monotonic() + _SECONDS_TO_TIDY_UP
    try:
        for process in running:
            process.wait(max(0.0, last - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:  # also after a second Ctrl-C: none outlives this process
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
