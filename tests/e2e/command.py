"""The training command on the tiny experiment, in a process of its own with one device."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from srum_jax.weights.orbax_params import OrbaxArrays

ROOT = pathlib.Path(__file__).resolve().parents[2]
_DEADLINE_SECONDS = 400


class Recorded(subprocess.Popen):
    """A command whose output goes to files: a pipe that nobody reads would stop it once 64 kB are written.

    Python prints where its threads are if SIGABRT ends it.
    """

    def __init__(self, command, **options):
        self._files = [tempfile.TemporaryFile("a+", errors="replace") for _ in range(2)]
        environment = options.pop("env", os.environ) | {"PYTHONFAULTHANDLER": "1"}
        super().__init__(command, stdout=self._files[0], stderr=self._files[1], env=environment, **options)

    def communicate(self, input=None, timeout=None):
        """Waits; returns standard output and standard error.

        Raises:
          AssertionError: it has not ended in time; says where it was.
        """
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended after {timeout} s: {self.args}\n{self.abort()}") from None
        return self._written(0), self._written(1)

    def abort(self):
        """Ends it; returns the end of its standard error, with the places of all threads if it was running."""
        self.send_signal(signal.SIGABRT)
        try:
            self.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
        return self._written(1)[-20_000:]

    def _written(self, number):
        self._files[number].seek(0)
        return self._files[number].read()


def start(workdir, *settings, distributed=False, **environment):
    """Starts the command with `--set` for every setting; it goes on in the background."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PJRT_NPROC")}
    command = [sys.executable, "-m", "srum_jax.train", "--experiment=tiny", "--workdir", str(workdir)]
    if distributed:
        command.append("--distributed")
    for setting in settings:
        command += ["--set", setting]
    return Recorded(command, cwd=ROOT, env=inherited | {"JAX_PLATFORMS": "cpu"} | environment)


def finish(process):
    """Waits; returns exit code, standard output and standard error."""
    out, err = process.communicate(timeout=_DEADLINE_SECONDS)
    return process.returncode, out, err


def run(workdir, *settings):
    """Runs the command to its end."""
    return finish(start(workdir, *settings))


def signal_when(process, condition, number: signal.Signals):
    """Sends a signal once the condition holds, and waits for the end."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    return finish(process)


def steps(workdir):
    """The finished checkpoints."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.exists() else []


def lines(workdir):
    """The logged values, without those that measure time or memory."""
    text = (workdir / "metrics.jsonl").read_text()
    return [{name: value for name, value in json.loads(line).items()
             if not name.startswith(("speed/", "time/", "memory/"))}
            for line in text.splitlines()]


def parameters(workdir, step):
    """Every trained parameter of a checkpoint."""
    arrays = OrbaxArrays(workdir / "checkpoints" / str(step))
    return {name: np.asarray(arrays.read(name)) for name in arrays.shapes}
