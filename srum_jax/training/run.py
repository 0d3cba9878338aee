"""What `python -m srum_jax.train` does once its settings are known: trains in a work directory that is its own.

A command that is refused leaves no trace: the settings are noted when the first step is about to be taken, and what was
made for a run that cannot be is taken back.
"""

import contextlib
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from srum_jax.data.errors import DataError
from srum_jax.data.records_source import read_manifest
from srum_jax.devices import start_devices
from srum_jax.distributed import join
from srum_jax.errors import ANTICIPATED, BadInput, tell
from srum_jax.mesh import build_mesh
from srum_jax.overrides import to_json
from srum_jax.process_watch import ProcessWatch
from srum_jax.rollouts.inputs import inputs_sha256
from srum_jax.stages import noted
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import write_json
from srum_jax.storage.errors import AccessError
from srum_jax.storage.no_trace import entries_go_if_refused, folder_goes_if_refused
from srum_jax.storage.ownership import owned
from srum_jax.training.experiment import Experiment, Prepare
from srum_jax.training.loop import Outcome, train
from srum_jax.training.state import family_of_source
from srum_jax.weights.fingerprint import checkpoint_fingerprint

CONFIG_FILE = "config.json"

# What may change between the runs of one work directory without making them different experiments. Where weights and
# records lie is no setting; what they are stands beside the settings.
MAY_CHANGE = ("training.", "mesh.", "compute.", "data.num_workers", "data.num_threads", "data.prefetch",
               "data.on_bad_record", "name", "model.checkpoint", "data.records",
               "rollouts.prompts", "rollouts.pictures", "rollouts.batch_size",
               "rollouts.audit_stop", "rollouts.gradient_norms")
_READ = "read"


def run_command(
    experiment: Experiment, workdir: epath.Path, prepare: Prepare | None, *, distributed: bool, began: float
) -> int:
    """Trains, says what came of it, and returns the exit code; arguments as for `run`.

    Args:
      distributed: this is one of several processes of the same run, which are met first.
    """
    watch = None
    try:
        if distributed:
            watch = join()
            sys.excepthook = lambda *error: _report_and_leave(watch, *error)
        outcome = run(experiment, workdir, prepare, began)
    except (*ANTICIPATED, *object_store.driver_errors()) as error:  # a bucket that did not answer others than us
        code = tell(error)
        if watch is not None:
            watch.abandon(code, error)
        return code
    except KeyboardInterrupt:
        print("interrupted; give the same command again to go on from the newest checkpoint", file=sys.stderr)
        if watch is not None:
            watch.abandon(130, "interrupted from the keyboard")
        return 130
    if watch is not None:
        watch.close()
    summarise(outcome)
    return 0


def run(
    experiment: Experiment, workdir: epath.Path, prepare: Prepare | None = None, began: float | None = None
) -> Outcome:
    """Trains an experiment in a work directory that is its own meanwhile.

    Args:
      experiment: its settings.
      workdir: new, or begun by the same experiment.
      prepare: makes what the experiment needs, and fills in where that lies.
      began: see `train`.

    Raises:
      BadInput: the devices do not start or the mesh does not fit; another run is at work in the directory, or it was
        begun by another version or with other settings, weights or records, or it cannot be written to.
    """
    start_devices()
    build_mesh(experiment.mesh)
    if jax.process_index() > 0:
        _meet_others("prepared")  # the first process writes what all of them read
        return train(_prepared(experiment, workdir, prepare), workdir, began)
    with _claimed(workdir):
        _compare(workdir, to_json(experiment), (*MAY_CHANGE, _READ))
        with entries_go_if_refused(workdir, until=lambda: object_store.exists(workdir / CONFIG_FILE)):
            experiment = _prepared(experiment, workdir, prepare)
            identities = _identities(experiment)
            settings = to_json(experiment) | {_READ: identities}
            if identities is not None:
                _compare(workdir, settings, MAY_CHANGE)
            _meet_others("prepared")
            return train(experiment, workdir, began, lambda: write_json(workdir / CONFIG_FILE, settings))


def _meet_others(where: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def _prepared(experiment: Experiment, workdir: epath.Path, prepare: Prepare | None) -> Experiment:
    try:
        return experiment if prepare is None else prepare(experiment, workdir)
    except DataError as error:  # records that were there before, and are not what this run needs
        raise BadInput(str(error)) from error


def _identities(experiment: Experiment) -> dict[str, Any] | None:
    """What a run reads, wherever it lies; None where some of it is not there, of which training says more."""
    model, sets = experiment.model, experiment.data.records
    try:
        checkpoint = None
        if model.checkpoint:
            checkpoint = checkpoint_fingerprint(model.checkpoint, family_of_source(model).architecture)
        if experiment.rollouts is not None:
            return {"checkpoint_sha256": checkpoint, "inputs": inputs_sha256(experiment.rollouts)}
        return {"checkpoint_sha256": checkpoint,
                "records": [[read_manifest(epath.Path(directory)).shards_sha256, share] for directory, share in sets]}
    except (OSError, BadInput, DataError):
        return None


def _compare(workdir: epath.Path, settings: dict[str, Any], may_change: tuple[str, ...]) -> None:
    """Raises BadInput if the directory was begun with something else."""
    path = workdir / CONFIG_FILE
    if not object_store.exists(path):
        return
    unshared = noted.unshared_names(noted.read(path, "--workdir") | {_READ: None}, settings | {_READ: None})
    if unshared:
        raise BadInput(f"{path}: another version of this program began this run, with other settings "
                       f"({', '.join(unshared[:5])}); use another --workdir, or that version.")
    noted.compare(path, settings, option="--workdir", may_change=may_change)


@contextlib.contextmanager
def _claimed(workdir: epath.Path) -> Iterator[None]:
    """Makes the directory, and keeps others out of it.

    Raises:
      BadInput: another process is in it; or it cannot be made, or written to.
    """
    local = object_store.is_local(workdir)
    with folder_goes_if_refused(workdir), contextlib.ExitStack() as stack:
        try:
            if local:
                workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(owned(workdir))
        except AccessError as error:
            raise BadInput(f"--workdir {workdir}: the bucket refuses it ({error}); expected credentials with the role "
                           "roles/storage.objectAdmin on it.") from error
        except OSError as error:
            if not local:
                raise  # a bucket that does not answer for a while: another start may help
            raise BadInput(f"--workdir {workdir}: cannot be made, or written to ({error}).") from error
        yield


def summarise(outcome: Outcome) -> None:
    """Prints what came of a run."""
    ending = "done" if outcome.finished else "stopped as asked"
    print(f"{ending} after step {outcome.step}")
    if outcome.bad_records:
        total = sum(outcome.bad_records.values())
        print(f"{total} places were left empty because their record could not be used:")
        for reason, count in sorted(outcome.bad_records.items()):
            print(f"  {count:6d}  {reason}")


def _report_and_leave(watch: ProcessWatch, kind, error, trace) -> None:
    traceback.print_exception(kind, error, trace)
    watch.abandon(1, error)
