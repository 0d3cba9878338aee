"""The training loop."""

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from srum_jax.attention_route import attention_route
from srum_jax.data.example import Batch
from srum_jax.errors import BadInput
from srum_jax.families.family import Forward
from srum_jax.mesh import ProcessRows, build_mesh
from srum_jax.models.layers.logical_axes import ROWS, check_layout, shapes_by_name
from srum_jax.observability.device_memory import memory_of_step
from srum_jax.observability.goodput import COMPILE, RESTORE, Goodput
from srum_jax.observability.metrics import MetricsWindow
from srum_jax.observability.profiling import Profiler
from srum_jax.observability.report import Report
from srum_jax.observability.step_log import StepLog
from srum_jax.observability.step_times import CHECKPOINT, DATA_WAIT
from srum_jax.overrides import to_json
from srum_jax.rollouts.source import RolloutBatches, check_rollouts
from srum_jax.training.abstract_run import abstract_batch, check_tokens, rows_of
from srum_jax.training.batch_source import BatchSource, RecordBatches
from srum_jax.training.checkpoint import Checkpoints
from srum_jax.training.experiment import Experiment
from srum_jax.training.optimizer import make_optimizer
from srum_jax.training.state import (
    LoadedModel,
    abstract_train_state,
    family_of_source,
    load_model,
    new_train_state,
    sha256_of_encoder,
)
from srum_jax.training.step import compile_step, make_step
from srum_jax.weights.tokenizer import load_tokenizer


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run did."""

    finished: bool  # or asked to stop, and saved
    step: int  # updates done
    bad_records: dict[str, int]  # places that were left empty, by reason


def train(
    experiment: Experiment, workdir: epath.Path, began: float | None = None, on_ready: Callable[[], None] | None = None
) -> Outcome:
    """Runs an experiment from its newest checkpoint, or from the start.

    Args:
      experiment: complete: with a checkpoint to start from and records to read.
      workdir: of this run; holds `checkpoints/`, `metrics.jsonl`, `goodput.jsonl`, `tensorboard/`, `profile/`, and
        `audit/` of rounds.
      began: when this process did, by `time.monotonic`, for the account of time; None: now.
      on_ready: called once model, records and state are there, before anything is written.

    Raises:
      BadInput: settings do not go together, or not with the model, the records or the devices.
      Failure: the loss is not finite.
      DataError, WeightsError, CheckpointError: see there.
    """
    settings, is_first = experiment.training, jax.process_index() == 0
    goodput = Goodput(workdir, time.monotonic() if began is None else began, enabled=is_first)

    # -- mesh ----------------------------------------------------------------------------------------------------
    mesh = build_mesh(experiment.mesh)
    devices = list(mesh.devices.flat)
    _check_shapes(experiment, mesh)
    compute = experiment.compute
    route = attention_route(compute.attention, devices[0], compute.dtype, setting="compute.attention")
    family = family_of_source(experiment.model)
    experiment = dataclasses.replace(experiment, rows=rows_of(experiment, family),
                                     compute=dataclasses.replace(compute, attention=route.name))
    check_tokens(experiment.rows, mesh.shape)
    rows = ProcessRows.of(mesh, experiment.data.rows_per_batch, jax.process_index())
    if experiment.rollouts is not None:  # before gigabytes are read
        check_rollouts(experiment, family, mesh)

    # -- model ---------------------------------------------------------------------------------------------------
    model = load_model(experiment.model, mesh, experiment.compute.dtype, experiment.seed,
                       stored_codes=experiment.rows.stored_codes)
    if experiment.mesh.check_layout and devices[0].platform == "tpu":
        check_layout(model.trained, mesh, family.architecture.rules)
    optimizer = make_optimizer(experiment.optimizer, balanced=experiment.balanced)
    forward = family.forward(model.config, experiment.compute)
    _check_objective(experiment, forward)

    # -- data ----------------------------------------------------------------------------------------------------
    batches: BatchSource = (_open_records(experiment, model, forward, mesh, rows) if experiment.rollouts is None else
                            RolloutBatches(experiment, model, forward, mesh, rows, workdir))
    checkpoints = Checkpoints(workdir / "checkpoints", settings.keep)
    with contextlib.closing(batches), checkpoints, _StopRequest() as stop:

        # -- state: new or restored ------------------------------------------------------------------------------
        window, done = MetricsWindow(), 0
        opening = f"{_opening(experiment, mesh, model)}, {route}"
        if checkpoints.latest is None:
            state = new_train_state(model.trained, optimizer, mesh, with_ema=experiment.ema is not None)
        else:
            like = abstract_train_state(model.trained, optimizer, mesh, with_ema=experiment.ema is not None)
            for array in jax.tree.leaves(model.trained):
                array.delete()  # the checkpoint's parameters take their place
            with goodput.phase(RESTORE):
                restored = checkpoints.restore(like)
            state, done = restored.state, restored.step
            batches.set_state(restored.host["data"])
            window.set_state(restored.host["metrics"])
            opening += f", restored from step {done}"
        if done >= settings.steps:
            return Outcome(True, done, {})
        if on_ready is not None:
            on_ready()

        with (Report(workdir, first_step=done, last_step=settings.steps, enabled=is_first) as report,
              Profiler(workdir, settings, report.say) as profiler):
            goodput.open(done)
            report.say(opening)

            # -- compile -----------------------------------------------------------------------------------------
            batches.start_prefetch()
            with goodput.phase(COMPILE):
                step = compile_step(
                    make_step(model.graphdef, forward, experiment.objective, optimizer,
                              accumulation_steps=settings.accumulation_steps, seed=experiment.seed,
                              ema=experiment.ema, sides_every=experiment.sides_every,
                              balanced=experiment.balanced),
                    state, model.frozen,
                    abstract_batch(experiment, family, model.config, forward, mesh), mesh,
                )
            report.say(memory_of_step(step))

            # -- loop --------------------------------------------------------------------------------------------
            trained = shapes_by_name(model.trained)
            costs = model.family.costs

            def flops_of(host: Batch) -> float:
                per_group = 0.0 if costs is None else costs.step_flops(model.config, host, trained)
                return rows.num_groups * per_group

            with StepLog(experiment, report, goodput, profiler, window, devices, flops_of) as log:
                stopping = False
                while True:
                    with log.span(DATA_WAIT):
                        drawn = batches.draw(state, model.frozen)
                    log.hand_over(done + 1)
                    # Nothing in here may wait for a device by accident.
                    with jax.transfer_guard("disallow"), jax.profiler.StepTraceAnnotation("train", step_num=done + 1):
                        state, metrics = step(state, model.frozen, drawn.batch)
                        done += 1
                        # One step late: while the devices work on this step, the host reads the one before.
                        log.handed_over(done, metrics, drawn)
                    last, stopping = done == settings.steps, stop.requested(done) or stopping
                    ending = last or (stopping and batches.at_rest)
                    if ending or done % settings.save_every == 0:
                        log.settle()  # a step whose loss is not finite is never saved
                        # Saved before the next batch is drawn, so that the place in the data belongs to this step.
                        host = {"data": batches.get_state(), "metrics": window.get_state()}
                        with log.span(CHECKPOINT):
                            report.flush()  # first: a resumed run does not repeat these lines
                            checkpoints.save(done, state, host, to_json(experiment))
                    if ending:
                        break
                with log.span(CHECKPOINT):
                    checkpoints.wait()
                log.close(done, finished=last)
            report.say(f"saved step {done} in {checkpoints.directory}")
        return Outcome(last, done, dict(batches.bad_records))


def _open_records(
    experiment: Experiment, model: LoadedModel, forward: Forward, mesh: Mesh, rows: ProcessRows
) -> BatchSource:
    tokenizer = load_tokenizer(model.checkpoint.directory)
    encoder = sha256_of_encoder(experiment.model, model) if experiment.rows.stored_codes else None
    try:
        packer = model.family.packer(experiment.rows, model.config, tokenizer, experiment.objective.columns, encoder)
        return RecordBatches(experiment, packer, forward, mesh, rows)
    except ValueError as error:  # records that are absent, or settings that do not go with the model
        raise BadInput(str(error)) from error


class _StopRequest:
    """Turns SIGTERM (pre-emption, maintenance) into a flag that all processes see at the same step."""

    def __init__(self):
        self._asked = threading.Event()
        self._previous = None

    def __enter__(self) -> "_StopRequest":
        # With several processes JAX's own preemption service holds the signal.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, lambda *_: self._asked.set())
        return self

    def __exit__(self, *_) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def requested(self, step: int) -> bool:
        """Whether to stop after this step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked.is_set()


def _check_shapes(experiment: Experiment, mesh: Mesh) -> None:
    data, micro = experiment.data, experiment.training.accumulation_steps
    ways = int(np.prod([mesh.shape[axis] for axis in ROWS]))
    if data.rows_per_batch % (ways * micro):
        raise BadInput(
            f"data.rows_per_batch: expected a multiple of {ways * micro} (data x fsdp = {ways} devices times "
            f"accumulation_steps {micro}), found {data.rows_per_batch}."
        )


def _check_objective(experiment: Experiment, forward: Forward) -> None:
    if experiment.rollouts is None and not hasattr(experiment.objective, "columns_of"):
        raise BadInput(f"objective: {type(experiment.objective).__name__} compares several outputs of one input, "
                       "which records do not hold; use RewardWeighted, or rollouts.")
    experiment.objective.check(forward.image_error)


def _opening(experiment: Experiment, mesh: Mesh, model: LoadedModel) -> str:
    shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    trained, frozen = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in (model.trained, model.frozen))
    lora = experiment.model.lora
    low_rank = "" if lora is None else f" (LoRA of rank {lora.rank})"
    return (f"{experiment.name}: {trained:,} trained{low_rank} and {frozen:,} fixed values, "
            f"{experiment.compute.dtype}, on {mesh.size} x {mesh.devices.flat[0].device_kind} ({shape})")
