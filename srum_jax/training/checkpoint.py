"""Checkpoints of a run: everything that the next step needs, in one Orbax step directory.

    params   trained parameters, a nested dict under our names
    opt      optimizer state
    ema      average of the parameters, if the run keeps one; like params
    meta     step, experiment, and what the host carries: its place in the data, the metrics of the interval so far

Nothing in it depends on the number of processes, and arrays are restored onto whatever mesh the run has now.
"""

import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath
from flax import nnx
from jax.experimental import multihost_utils

from srum_jax.errors import BadInput, Failure
from srum_jax.storage import object_store
from srum_jax.storage.errors import AccessError
from srum_jax.training.state import TrainState
from srum_jax.weights.run_folder import EMA

_LOG = logging.getLogger(__name__)
_FORMAT = 1
# Of one stored chunk. Whoever reads part of an array fetches whole chunks, and has to hold them.
_CHUNK_BYTES = 256 * 2**20
_DAMAGED = ".damaged"  # behind the number of a step: Orbax and the tools of the weights take it for no step


class CheckpointError(Failure):
    """A step cannot be restored, or not be written."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint brings back."""

    state: TrainState
    host: dict[str, Any]  # what the host carried
    step: int


class Checkpoints:
    """The checkpoints of one run. Steps appear whole or not at all; a save that was cut short leaves no step."""

    def __init__(self, directory: epath.PathLike, keep: int):
        """Opens or creates the directory.

        Args:
          directory: one folder per step.
          keep: how many of the newest steps stay.

        Raises:
          BadInput: it cannot be written to.
        """
        self.directory = _absolute(epath.Path(directory))
        if jax.process_index() == 0:
            _try_writing(self.directory)
        context = ocp.Context()
        context.array.saving.storage_options.chunk_byte_size = _CHUNK_BYTES
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            context=context,
            # The loop decides when to save.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        # Saving needs all processes. When one of them has failed, the others may wait for it for minutes.
        if kind is None:
            self.close()
        elif jax.process_count() == 1:
            try:
                self.close()
            except CheckpointError as error:  # what went wrong before it is what the caller has to know
                _LOG.warning("%s", error)

    @property
    def latest(self) -> int | None:
        """The newest complete step, as the first process sees it."""
        return self._newest_below(sys.maxsize)

    def _newest_below(self, bound: int) -> int | None:
        steps = [checkpoint.step for checkpoint in self._checkpointer.checkpoints if checkpoint.step < bound]
        newest = max(steps, default=-1)
        if jax.process_count() > 1:
            newest = int(multihost_utils.broadcast_one_to_all(np.asarray(newest, np.int32)))
        return None if newest < 0 else newest

    def save(self, step: int, state: TrainState, host: dict[str, Any], experiment: dict[str, Any]) -> None:
        """Copies the state to the host and writes it in the background.

        Args:
          step: updates done.
          state: of the run; may be donated once this returns.
          host: what the host carries from step to step, fit for JSON and the same on every process.
          experiment: settings, for whoever reads the checkpoint.

        Raises:
          CheckpointError: this step, or the one before it, cannot be written.
        """
        arrays = {"params": nnx.to_pure_dict(state.parameters), "opt": _plain(state.optimizer)}
        if state.ema is not None:
            arrays[EMA] = nnx.to_pure_dict(state.ema)
        meta = {"format": _FORMAT, "step": step, "host": json.dumps(host), "experiment": json.dumps(experiment)}
        with self._writing():
            self._checkpointer.save_checkpointables_async(step, arrays | {"meta": meta}, force=True)

    def restore(self, like: TrainState) -> Restored:
        """The newest step that can be restored, the same on all processes.

        Those after it are damaged, and get another name: an unattended run loses some steps, but goes on. If no step
        can be restored, something else is wrong, and everything stays as it is.

        Args:
          like: shapes, dtypes and shardings to restore to; arrays, or `jax.ShapeDtypeStruct`.

        Raises:
          CheckpointError: naming the newest step and its directory, if no step is intact and fits, or if only one of
            the run so far and this one keeps an average of the parameters.
        """
        first_error, failed, step = None, [], self.latest
        while step is not None:
            restored, error = None, None
            try:
                restored = self._restore_step(step, like)
            except CheckpointError as raised:
                error = raised
            if _all_have(restored is not None):
                if failed:
                    self._set_aside(failed, restored.step, first_error)
                return restored
            del restored  # its memory is needed for the next
            first_error = first_error or error or CheckpointError(
                f"{self.directory / str(step)}: step {step} cannot be restored by another process; see its log.")
            failed.append(step)
            step = self._newest_below(step)
        raise first_error

    def _restore_step(self, step: int, like: TrainState) -> Restored:
        where = self.directory / str(step)
        _check_ema(where, like)
        wanted = {"params": nnx.to_pure_dict(like.parameters), "opt": _plain(like.optimizer)}
        if like.ema is not None:
            wanted[EMA] = nnx.to_pure_dict(like.ema)
        abstract = jax.tree.map(_abstract, wanted)
        try:
            with _alone():
                loaded = ocp.load_checkpointables(where, abstract | {"meta": None})
            meta = loaded["meta"]
            host = json.loads(str(meta["host"]))
            stored_step = int(meta["step"])
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{where}: step {step} cannot be restored ({_first_cause(error)}), nor one before it. It is damaged, "
                "or another model or optimizer wrote it. Begin another run in another --workdir, or give the settings "
                "of this one."
            ) from error
        parameters = _like(like.parameters, loaded["params"])
        optimizer = _unplain(like.optimizer, loaded["opt"])
        ema = None if like.ema is None else _like(like.ema, loaded[EMA])
        number = jax.device_put(np.asarray(stored_step, np.int32), like.step.sharding)
        return Restored(TrainState(number, parameters, optimizer, ema), host, stored_step)

    def _set_aside(self, steps: list[int], intact: int, error: CheckpointError) -> None:
        """Renames damaged steps, so that none of them is taken for one of the run again."""
        if jax.process_index() == 0:
            for step in steps:
                path = _free_name(self.directory / f"{step}{_DAMAGED}")
                try:
                    (self.directory / str(step)).rename(path)
                except OSError as failure:
                    raise CheckpointError(f"{self.directory / str(step)}: is damaged, and cannot be renamed "
                                          f"({failure}); move it away to go on from step {intact}.") from error
                _LOG.warning("%s: step %d is DAMAGED and lies in %s now. Going on from step %d: what was done after it "
                             "is done again. (%s)", self.directory, step, path.name, intact, _first_cause(error))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged steps set aside")
        self._checkpointer.reload()

    def wait(self) -> None:
        """Returns once everything is on disk.

        Raises:
          CheckpointError: a step cannot be written.
        """
        with self._writing():
            self._checkpointer.wait()

    def close(self) -> None:
        """Finishes pending work and lets go of the directory.

        Raises:
          CheckpointError: a step cannot be written.
        """
        with self._writing():
            self._checkpointer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        # Steps are written in the background: what goes wrong there is heard of at the next call.
        try:
            yield
        except (ValueError, OSError, RuntimeError, *object_store.driver_errors()) as error:
            raise CheckpointError(
                f"{self.directory}: a checkpoint cannot be written ({_first_cause(error)}). Those before it are "
                "intact; make room or access, and give the same command again."
            ) from error


def _try_writing(directory: epath.Path) -> None:
    """Finds out now, and not after the hours until the first save."""
    probe = directory / f".writable-{os.getpid()}"
    try:
        with object_store.os_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(bytes(4096))
            probe.unlink()
    except OSError as error:
        if not object_store.is_local(directory) and not isinstance(error, AccessError):
            raise  # a bucket that does not answer for a while: another start may help
        raise BadInput(f"{directory}: no checkpoint can be written here ({error}). Make room or access, or use "
                             "another --workdir.") from error


def _alone() -> ocp.Context:
    """Reads without meeting other processes: one that meets damage would leave them waiting."""
    context = ocp.Context()
    context.multiprocessing.primary_host = jax.process_index()
    context.multiprocessing.active_processes = {jax.process_index()}
    return context


def _all_have(this_has: bool) -> bool:
    if jax.process_count() == 1:
        return this_has
    return bool(np.all(multihost_utils.process_allgather(np.asarray(this_has))))


def _free_name(path: epath.Path) -> epath.Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _check_ema(step: epath.Path, like: TrainState) -> None:
    stored = (step / EMA).exists()
    if stored and like.ema is None:
        raise CheckpointError(f"{step}: holds an average of the parameters (ema), which this command does not keep. "
                              "Give the settings of ema that the run was begun with.")
    if like.ema is not None and not stored:
        raise CheckpointError(f"{step}: holds no average of the parameters: the run was begun without ema, or the step "
                              "is damaged. Leave ema away (--set ema=none), or begin another run in another --workdir.")


def _absolute(directory: epath.Path) -> epath.Path:
    """Orbax takes absolute paths only; those of a bucket are, and would be broken by resolving them."""
    return directory if "://" in os.fspath(directory) else directory.resolve()


def _abstract(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _is_state(node: Any) -> bool:
    return isinstance(node, nnx.State)


def _plain(tree: Any) -> Any:
    """Module states inside a tree as nested dicts, which Orbax stores under readable names."""
    return jax.tree.map(lambda node: nnx.to_pure_dict(node) if _is_state(node) else node, tree, is_leaf=_is_state)


def _like(state: nnx.State, values: dict) -> nnx.State:
    """A state with the variables of `state` and other values."""
    leaves = jax.tree.leaves(values)
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def _unplain(like: Any, values: Any) -> Any:
    """The inverse of `_plain`, given a tree of the wanted structure."""
    return jax.tree.map(lambda node, value: _like(node, value) if _is_state(node) else value, like, values,
                        is_leaf=_is_state)


def _first_cause(error: BaseException) -> str:
    """What went wrong first, in one line; Orbax wraps it in messages about handlers, TensorStore adds its settings."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    text = " ".join(str(error).split()).partition(" [tensorstore_spec=")[0]
    shown = text if len(text) <= 300 else f"{text[:100]} ... {text[-200:]}"  # long paths come before the reason
    return f"{type(error).__name__}: {shown}"
