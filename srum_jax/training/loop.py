"""The training loop."""

import collections
import contextlib
import dataclasses
import enum
import signal
import threading
import time
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from srum_jax.data.errors import BadRecord
from srum_jax.data.pipeline import HostBatch, make_iterator
from srum_jax.experiment import Experiment
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.sharding import ROWS, RULES, batch_shardings
from srum_jax.models.layers.logical_axes import check_layout
from srum_jax.overrides import to_json
from srum_jax.training.checkpoint import Checkpoints
from srum_jax.training.flops import count_pack, peak_flops, step_flops
from srum_jax.training.mesh import build_mesh
from srum_jax.training.metrics import MetricsWindow, is_finite
from srum_jax.training.optimizer import learning_rate_schedule, make_optimizer
from srum_jax.training.report import Report
from srum_jax.training.state import load_model, new_train_state
from srum_jax.training.step import StepMetrics, compile_step, make_step
from srum_jax.training.tokenizer import load_tokenizer

_GIB = 2**30


class TrainingError(RuntimeError):
    """Training cannot start, or had to stop."""


class Ending(enum.Enum):
    """How a run ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"  # asked to stop, and saved


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run did."""

    ending: Ending
    step: int  # updates done
    bad_records: dict[str, int]  # places that were left empty, by reason


def train(experiment: Experiment, workdir: epath.Path) -> Outcome:
    """Runs an experiment from its newest checkpoint, or from the start.

    Args:
      experiment: complete: with a checkpoint to start from and records to read.
      workdir: of this run; holds `checkpoints/`, `metrics.jsonl`, `tensorboard/`.

    Raises:
      TrainingError: settings do not go together, or the loss is not finite.
      DataError, WeightsError, ShardingError, MeshError, ModelError, CheckpointError: see there.
    """
    settings = experiment.training

    # -- mesh ----------------------------------------------------------------------------------------------------
    mesh = build_mesh(experiment.mesh)
    devices = list(mesh.devices.flat)
    _check_rows(experiment, mesh)

    # -- model and state -----------------------------------------------------------------------------------------
    model = load_model(experiment.model, mesh, experiment.compute.dtype)
    if experiment.mesh.check_layout and devices[0].platform == "tpu":
        check_layout(model.trained, mesh, RULES)
    optimizer = make_optimizer(experiment.optimizer)
    state = new_train_state(model.trained, optimizer, mesh)

    # -- data ----------------------------------------------------------------------------------------------------
    tokenizer = load_tokenizer(experiment.model.checkpoint)
    batches = make_iterator(experiment.data, model.config, tokenizer, seed=experiment.seed,
                            process_index=jax.process_index(), process_count=jax.process_count())

    # -- restore -------------------------------------------------------------------------------------------------
    checkpoints = Checkpoints(workdir / "checkpoints", settings.keep)
    done = 0
    if checkpoints.latest is not None:
        restored = checkpoints.restore(state)
        state, done = restored.state, restored.step
        batches.set_state(restored.data)
    report = Report(workdir, first_step=done, last_step=settings.steps, enabled=jax.process_index() == 0)
    report.say(_opening(experiment, mesh, model.trained, done))

    with contextlib.closing(batches), _StopRequest() as stop:
        if done >= settings.steps:
            report.close()
            checkpoints.close()
            return Outcome(Ending.FINISHED, done, {})
        # -- compile ---------------------------------------------------------------------------------------------
        source = _Batches(batches, mesh)
        first = next(source)
        step = compile_step(
            make_step(model.graphdef, model.config, optimizer, objective=experiment.objective,
                      compute=experiment.compute, accumulation_steps=settings.accumulation_steps,
                      reward_limits=experiment.data.reward_map.limits, seed=experiment.seed),
            state, model.frozen, first.batch, mesh,
        )
        report.say(_memory(step))
        loop = _Loop(experiment, report, flops_of=lambda counts: step_flops(model.config, counts),
                     peak=peak_flops(devices))

        # -- loop ------------------------------------------------------------------------------------------------
        current, saved_at = first, done
        while True:
            state, metrics = step(state, model.frozen, current.batch)
            done += 1
            # One step late: while the device works on this step, the host looks at the one before.
            loop.dispatched(done, metrics, current)
            last, stopping = done == settings.steps, stop.requested(done)
            if last or stopping or done % settings.save_every == 0:
                loop.settle()  # a step whose loss is not finite is never saved
                checkpoints.save(done, state, current.next_state, to_json(experiment))
                saved_at = done
            if last or stopping:
                break
            current = next(source)  # after saving, so that the saved place in the data belongs to the saved step
        checkpoints.wait()
        report.say(f"saved step {saved_at} in {workdir / 'checkpoints'}")
        report.close()
        checkpoints.close()
        return Outcome(Ending.FINISHED if last else Ending.INTERRUPTED, done, dict(source.bad_records))


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """A batch on the devices, with what the host keeps of it."""

    batch: PackedBatch
    host: HostBatch
    next_state: dict  # of the iterator, once this batch has been trained on


class _Batches:
    """Draws batches, puts them on the mesh, and counts what could not be used."""

    def __init__(self, batches, mesh: Mesh):
        self._batches, self._mesh = batches, mesh
        self.bad_records: collections.Counter[str] = collections.Counter()

    def __iter__(self) -> Iterator[_Drawn]:
        return self

    def __next__(self) -> _Drawn:
        host = next(self._batches)
        self.bad_records.update(map(_kind, host.bad_records))
        shardings = batch_shardings(self._mesh, host.batch)
        batch = jax.tree.map(jax.make_array_from_process_local_data, shardings, host.batch)
        return _Drawn(batch, host, self._batches.get_state())


class _Loop:
    """The host's side of the steps: metrics, checks, and lines, one step behind the devices."""

    def __init__(self, experiment: Experiment, report: Report, flops_of, peak: float | None):
        self._every, self._report = experiment.training.log_every, report
        self._rate = learning_rate_schedule(experiment.optimizer)
        self._flops_of, self._peak = flops_of, peak
        self._window = MetricsWindow()
        self._pending: tuple[int, StepMetrics, _Drawn] | None = None
        self._since, self._flops, self._tokens = time.monotonic(), 0.0, 0

    def dispatched(self, step: int, metrics: StepMetrics, drawn: _Drawn) -> None:
        """Notes a step that the devices are working on, and settles the one before."""
        previous, self._pending = self._pending, (step, metrics, drawn)
        if previous is not None:
            self._take(*previous)

    def settle(self) -> None:
        """Waits for the newest step."""
        if self._pending is not None:
            self._take(*self._pending)
            self._pending = None

    def _take(self, step: int, metrics: StepMetrics, drawn: _Drawn) -> None:
        metrics = jax.device_get(metrics)
        if not is_finite(metrics):
            records = ", ".join(id_ for row in drawn.host.record_ids for id_ in row if id_)
            raise TrainingError(
                f"step {step}: loss {float(metrics.loss)}, gradient norm {float(metrics.gradient_norm)}: not finite. "
                f"Records of this batch (on this process): {records}. The last checkpoint is from before this step; "
                "look at these records, or lower optimizer.learning_rate."
            )
        self._window.add(metrics)
        counts = count_pack(drawn.host.batch)
        processes = jax.process_count()  # rows of all processes hold about as much as ours
        self._flops += self._flops_of(counts) * processes
        self._tokens += (counts.und_tokens + counts.gen_tokens) * processes
        self._report.advance(step)
        if step % self._every == 0:
            self._log(step)

    def _log(self, step: int) -> None:
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        values = self._window.summary() | {
            "learning_rate": float(self._rate(step - 1)),
            "speed/tokens_per_second": self._tokens / seconds,
            "speed/model_flops_per_second": self._flops / seconds,
        }
        if self._peak is not None:
            values["speed/mfu"] = self._flops / seconds / self._peak
        self._flops, self._tokens = 0.0, 0
        self._report.log(step, values)


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


def _check_rows(experiment: Experiment, mesh: Mesh) -> None:
    rows, micro = experiment.data.rows_per_batch, experiment.training.accumulation_steps
    ways = int(np.prod([mesh.shape[axis] for axis in ROWS]))
    if rows % (ways * micro):
        raise TrainingError(
            f"data.rows_per_batch: expected a multiple of {ways * micro} (data x fsdp = {ways} devices times "
            f"accumulation_steps {micro}), found {rows}."
        )


def _kind(record: BadRecord) -> str:
    """A reason without what differs from record to record, for counting."""
    return record.reason.partition(":")[0]


def _opening(experiment: Experiment, mesh: Mesh, trained, done: int) -> str:
    shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    count = sum(leaf.size for leaf in jax.tree.leaves(trained))
    device = mesh.devices.flat[0].device_kind
    return (f"{experiment.name}: {count:,} trained parameters on {mesh.size} x {device} ({shape}), "
            f"{experiment.compute.dtype}, {'from step ' + str(done) if done else 'from the start'}")


def _memory(compiled: jax.stages.Compiled) -> str:
    analysis = compiled.memory_analysis()
    if analysis is None:
        return "memory per device: this backend does not say"
    parts = {"arguments": analysis.argument_size_in_bytes, "temporaries": analysis.temp_size_in_bytes,
             "donated": analysis.alias_size_in_bytes}
    return "memory per device: " + ", ".join(f"{name} {size / _GIB:.3f} GiB" for name, size in parts.items())
