"""Profiler traces of some steps: named in the settings, or asked for while the run goes on.

Who creates the file `profile_now` in the work directory gets a trace of the next steps. Process 0 looks for it at every
log line, and tells the others through the service where all processes meet which steps these are; it removes the file
when the trace begins.

Nothing that goes wrong with a trace ends the run.
"""

import logging
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import jax
from etils import epath
from jax._src.distributed import global_state  # the client stands nowhere else

from srum_jax.storage.object_store import exists, forget_listing, is_local, put_file, remove
from srum_jax.training.config import TrainingConfig

_LOG = logging.getLogger(__name__)

PROFILE_FOLDER, REQUEST_FILE = "profile", "profile_now"

_KINDS = (".xplane.pb", ".trace.json.gz")
_KEY = "srum_jax/profile/first_step"
_ERRORS = (OSError, RuntimeError)  # of files, of the profiler


class Profiler:
    """Traces steps into `profile/plugins/profile/step_N/process_P.xplane.pb`, where TensorBoard and XProf look."""

    def __init__(self, directory: epath.Path, settings: TrainingConfig, say: Callable[[str], None]):
        """Traces nothing yet.

        Args:
          directory: of the run.
          settings: which steps, if any, and how many in any case.
          say: for a line on the console.
        """
        self._directory, self._say = directory, say
        self._first, self._num_steps = settings.profile_first_step, settings.profile_steps
        self._last_step, self._log_every = settings.steps, settings.log_every
        self._folder: pathlib.Path | None = None  # of the trace that is under way
        self._answering = False  # the trace to come was asked for by a file, which is there still
        self._too_late = False  # a file was found, and the run ends too soon

    def __enter__(self) -> "Profiler":
        if self._first is not None and self._first > self._last_step:
            self._say(f"profile: training.profile_first_step is {self._first}, and the run ends with step "
                      f"{self._last_step} (training.steps): these settings trace nothing")
            self._first = None  # requests are not to wait for it
        return self

    def __exit__(self, *_) -> None:
        if self._folder is not None:
            self._stop()

    def hand_over(self, step: int) -> None:
        """Right before a step is given to the devices."""
        if step != self._first:
            return
        try:
            self._folder = _start_trace()
        except _ERRORS as error:
            _LOG.warning("step %d: no profile can be made (%s).", step, error)
        if self._answering:
            self._remove_request()

    def finished(self, step: int) -> None:
        """Once a step's result is known."""
        if self._folder is not None and step >= self._first + self._num_steps - 1:
            self._stop()

    def look_for_request(self, step: int) -> None:
        """At a log line, which comes after the step behind it was handed over."""
        if self._folder is not None or (self._first is not None and self._first > step):
            return  # this trace first
        if jax.process_index() != 0:
            for _, first in global_state.client.key_value_dir_get(_KEY.rpartition("/")[0]):
                self._first = int(first)  # steps to come, or those of a trace that was made already
        elif not self._too_late and self._is_requested():
            first = first_step_for_all(step, self._log_every)
            if first > self._last_step:
                self._too_late = True
                self._say(f"profile: {REQUEST_FILE} came too late to trace steps of this run, which ends with step "
                          f"{self._last_step}")
                return
            self._first, self._answering = first, True
            if jax.process_count() > 1:
                global_state.client.key_value_set(_KEY, str(first), allow_overwrite=True)
            self._say(f"profile: {self._steps()} will be traced")

    def _is_requested(self) -> bool:
        if self._answering:  # the trace was made, but its file could not be removed
            self._remove_request()
            return False
        try:
            forget_listing(self._directory)
            return exists(self._directory / REQUEST_FILE)
        except OSError as error:
            _LOG.warning("%s cannot be looked for now (%s); tried again at the next log line.", REQUEST_FILE, error)
            return False

    def _remove_request(self) -> None:
        try:
            remove(self._directory / REQUEST_FILE)
            self._answering = False
        except OSError as error:
            _LOG.warning("%s cannot be removed now (%s); tried again at the next log line.", REQUEST_FILE, error)

    def _stop(self) -> None:
        folder, self._folder = self._folder, None
        try:
            jax.profiler.stop_trace()
            self._keep(folder)
        except _ERRORS as error:
            _LOG.warning("%s: the profile cannot be written (%s).", self._directory / PROFILE_FOLDER, error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, folder: pathlib.Path) -> None:
        """Copies what the profiler wrote: it can neither write into a bucket nor keep apart two processes of a host."""
        target = self._directory / PROFILE_FOLDER / "plugins" / "profile" / f"step_{self._first}"
        for file in folder.glob("plugins/profile/*/*.*"):
            kind = next((kind for kind in _KINDS if file.name.endswith(kind)), None)
            if kind is not None:
                _copy(file, target / f"process_{jax.process_index()}{kind}")
        self._say(f"profile: {self._steps()} are in {self._directory / PROFILE_FOLDER}")

    def _steps(self) -> str:
        return f"steps {self._first} to {min(self._first + self._num_steps - 1, self._last_step)}"


def first_step_for_all(step: int, log_every: int) -> int:
    """The first step of a trace that process 0 was asked for at the log line of `step`.

    Nobody is more than one step ahead of its metrics. When process 0 says which steps, it has handed over `step` + 1.
    Another process that knows the result of step + 2 or a later one can therefore read it: at the first log line from
    there on, after which it hands over the step after next.
    """
    return log_every * math.ceil((step + 2) / log_every) + 2


def _start_trace() -> pathlib.Path:
    """Begins a trace into a new folder; returns the folder, or leaves none."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="profile-"))
    try:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every Python call would slow the host, and hide what matters
        jax.profiler.start_trace(os.fspath(folder), profiler_options=options)
    except _ERRORS:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _copy(file: pathlib.Path, path: epath.Path) -> None:
    if is_local(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, path)
    else:
        put_file(path, file)
