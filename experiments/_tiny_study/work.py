"""The processes that train and examine the models of a study."""

import contextlib
import dataclasses
import fcntl
import glob
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence

from etils import epath

from experiments._tiny_study.errors import SettingsError
from experiments._tiny_study.side_by_side import available_cores, run_side_by_side
from experiments._tiny_study.steps import Study
from experiments._tiny_study.tasks import Task, Training, to_json
from srum_jax.storage.atomic_file import write_text

_MOST_JOBS = 8  # each holds a copy of the models and of their programs
_BYTES_PER_JOB = 2 << 30
_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several share a GPU, if there is one


@dataclasses.dataclass(frozen=True)
class Work:
    """A study that this process alone works at."""

    study: Study
    jobs: int  # processes at the same time
    lock: int  # descriptor that they inherit

    def do(self, tasks: Sequence[Task]) -> None:
        """Deals tasks, which take about the same time, to processes.

        Raises:
          SettingsError: a model is there, but was made in another way.
          CommandError: a task failed.
        """
        left = [task for task in tasks if not (isinstance(task, Training) and self._is_trained(task))]
        commands = []
        for number in range(min(self.jobs, len(left))):
            path = self.study.out / "tasks" / f"{number}.json"
            path.parent.mkdir(exist_ok=True)
            write_text(path, to_json(left[number :: self.jobs]))
            commands.append([sys.executable, "-m", "experiments._tiny_study.worker", os.fspath(self.study.out),
                             os.fspath(path)])
        run_side_by_side(commands, _ENVIRONMENT, keep_open=[self.lock])

    def _is_trained(self, task: Training) -> bool:
        if not self.study.checkpoint(task.name, task.seed).exists():
            return False
        self.study.model(task.variant, task.seed, epath.Path(task.records), task.start, task.name)
        return True


@contextlib.contextmanager
def at_work(study: Study, jobs: int) -> Iterator[Work]:
    """Keeps others out of the study's folder. Workers inherit the lock: it is held while any of them lives.

    Args:
      study: that was begun.
      jobs: processes at the same time.

    Raises:
      SettingsError: another process works in the folder.
    """
    with open(study.out / "study.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(f"--out {study.out}: another process works in this folder. Wait for its end, or end it "
                                "(after a kill -9, its workers: experiments._tiny_study.worker).") from error
        with _environment(study):
            yield Work(study, jobs, file.fileno())


def _only_libtpu_without_tpu() -> bool:
    """Whether JAX could use nothing but TPUs besides the processor, and there are none: the dev extra brings libtpu."""
    plugins = importlib.util.find_spec("jax_plugins") or importlib.metadata.entry_points(group="jax_plugins")
    return bool(importlib.util.find_spec("libtpu") and not plugins
                and not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/[0-9]*"))


def default_jobs() -> int:
    """One process for each core, if memory allows. Of a container's own limits only those on its cores are known."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(len(available_cores()), _MOST_JOBS, memory // _BYTES_PER_JOB))


@contextlib.contextmanager
def _environment(study: Study) -> Iterator[None]:
    """Variables for all processes that this one starts, unless they are set."""
    before = dict(os.environ)
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # less time in the kernel for large arrays
    # Equal shapes, equal programs: of the two rounds, of all models that are examined.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.fspath(study.out / "programs"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    if _only_libtpu_without_tpu():
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # or libtpu complains at length, in every process
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
