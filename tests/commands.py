"""Our commands in processes of their own, most of them forked from one that has imported what they import.

`run` and `start` fork; `run_afresh` and `start_afresh` pay for a true `python -m`, which one test of each command does.
"""

import atexit
import contextlib
import faulthandler
import gc
import importlib
import importlib.util
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.nnx
import grain
import jax
import optax
import orbax.checkpoint
import PIL.Image
import safetensors.numpy
import tokenizers

# What takes long to import. Ours is found by the commands themselves.
IMPORTED = (flax.nnx, grain, jax, optax, orbax.checkpoint, PIL.Image, safetensors.numpy, tokenizers)

ROOT = pathlib.Path(__file__).resolve().parents[1]
_DEADLINE_SECONDS = 900  # a study on a machine that others use too


class Finished(NamedTuple):
    """The exit code (negative: the signal that ended it) and what was printed."""

    code: int
    out: str
    err: str


class Command:
    """A command that goes on in the background, with its output in files: a pipe that nobody reads would stop it."""

    def __init__(self, begin: Callable, given: str):
        self._files = [tempfile.TemporaryFile("w+") for _ in range(3)]
        self._files[0].write(given)
        self._files[0].seek(0)
        self._process = begin(self._files)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.exitcode if isinstance(self._process, _FORK.Process) else self._process.poll()

    @property
    def out(self) -> str:
        """What it has printed by now."""
        return self._written(1)

    def send_signal(self, number: signal.Signals) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """With SIGKILL; returns when it has ended."""
        self.send_signal(signal.SIGKILL)
        self._wait(60)

    def finish(self, within: float = _DEADLINE_SECONDS) -> Finished:
        """Waits for its end.

        Raises:
          AssertionError: it has not ended in time; says where all its threads were.
        """
        if not self._wait(within):
            self.send_signal(signal.SIGABRT)
            self._wait(60)
            self.kill()
            raise AssertionError(f"not ended after {within} s\n{self._written(2)[-20_000:]}")
        return Finished(self.poll(), self._written(1), self._written(2))

    def signal_when(self, condition: Callable[[], object], number: signal.Signals) -> Finished:
        """Sends a signal once the condition holds, and waits for the end."""
        self.wait_for(condition)
        self.send_signal(number)
        return self.finish()

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Returns once the condition holds.

        Raises:
          AssertionError: it has ended before, or it takes too long.
        """
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not condition():
            assert self.poll() is None, self.finish()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _wait(self, seconds: float) -> bool:
        if isinstance(self._process, _FORK.Process):
            self._process.join(seconds)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return self.poll() is not None

    def _written(self, number: int) -> str:
        descriptor = self._files[number].fileno()  # its position is that of the command
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")


_FORK = multiprocessing.get_context("forkserver")


def start(module: str, *argv, devices: int = 1, env: Mapping[str, str] | None = None, given: str = "") -> Command:
    """Starts `python -m module argv`; `given` is its standard input.

    Args:
      devices: how many the process has.
      env: variables that it has beside ours; those of JAX's configuration take effect too.
    """
    def begin(files):
        _FORK.set_forkserver_preload([__name__])
        descriptors = [multiprocessing.reduction.DupFd(file.fileno()) for file in files]
        process = _FORK.Process(
            target=_command, args=(module, list(map(str, argv)), devices, dict(env or {}), descriptors))
        process.start()
        return process

    return Command(begin, given)


def run(module: str, *argv, **options) -> Finished:
    """As `start`, to its end."""
    return start(module, *argv, **options).finish()


def start_afresh(module: str, *argv, devices: int = 1, env: Mapping[str, str] | None = None, given: str = "",
                 prepare: Callable[[], None] | None = None) -> Command:
    """As `start`, by a new Python; `prepare` is called in the process before it begins."""
    def prepared():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it is ignored where the tests run in the background
        if prepare is not None:
            prepare()

    def begin(files):
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, argv)], cwd=ROOT, stdin=files[0], stdout=files[1], stderr=files[2],
            env=_environment(devices) | {"PYTHONFAULTHANDLER": "1"} | dict(env or {}), preexec_fn=prepared)

    return Command(begin, given)


def run_afresh(module: str, *argv, **options) -> Finished:
    """As `start_afresh`, to its end."""
    return start_afresh(module, *argv, **options).finish()


def _environment(devices: int) -> dict[str, str]:
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    if devices > 1:
        flags.append(f"--xla_force_host_platform_device_count={devices}")
    threads = {"PJRT_NPROC": "16"} if devices > 1 else {}
    kept = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    return kept | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)} | threads


def _command(module, argv, devices, env, descriptors):
    """What the forked process does: it becomes the command."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor.detach(), number)
    sys.stdin = open(0, closefd=False)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False, errors="replace") for number in (1, 2))
    faulthandler.enable()
    gc.set_threshold(100_000, 10, 10)  # see conftest.py
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(ROOT)
    changed = _environment(devices) | env
    os.environ.clear()
    os.environ.update(changed)
    _configure_jax(env)
    sys.argv = [module, *argv]
    package = importlib.util.find_spec(module).submodule_search_locations is not None
    try:
        code = importlib.import_module(f"{module}.__main__" if package else module).main(argv)
    finally:
        atexit._run_exitfuncs()
    sys.exit(code)


def _configure_jax(env):
    """JAX read its variables when it was imported."""
    for name, value in env.items():
        option = name.lower()
        if option in jax.config.values:
            kind = type(jax.config.values[option])
            jax.config.update(option, value == "true" if kind is bool else value if kind is type(None) else kind(value))
