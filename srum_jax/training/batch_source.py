"""Where the batches of a run come from."""

import collections
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import jax
from flax import nnx
from jax.sharding import Mesh

from srum_jax.data.errors import BadRecord, DataError
from srum_jax.data.example import Batch, Packer
from srum_jax.data.pipeline import HostBatchIterator
from srum_jax.errors import BadInput
from srum_jax.families.family import Forward
from srum_jax.mesh import ProcessRows, on_mesh
from srum_jax.training.experiment import Experiment
from srum_jax.training.state import TrainState

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A batch on the devices, with what the host keeps of it."""

    batch: Batch
    host: Batch  # NumPy arrays, the rows of this process
    names: tuple[str, ...]  # of the samples of this process, for messages
    sums: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)  # to be logged: totals, weights
    at_most: Mapping[str, float] = dataclasses.field(default_factory=dict)  # of the step's metrics, else a warning


class BatchSource(Protocol):
    """Batches of all processes, one after the other.

    Attributes:
      bad_records: places of this process that were left empty, by reason.
    """

    bad_records: Mapping[str, int]

    @property
    def at_rest(self) -> bool:
        """Whether `get_state` is a place to go on from; a checkpoint waits until it is."""

    def draw(self, state: TrainState, frozen: nnx.State) -> Drawn:
        """The next batch.

        Args:
          state: of the run, before the step that gets the batch; what is drawn may depend on it.
          frozen: the model's variables that are not trained.

        Raises:
          DataError: there is none.
        """

    def get_state(self) -> dict[str, Any]:
        """The place, fit for JSON."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from where `get_state` was taken.

        Raises:
          BadInput: it is no place of these batches.
        """

    def start_prefetch(self) -> None:
        """Batches are about to be drawn; some may be prepared."""

    def close(self) -> None:
        """Ends what works in the background."""


class RecordBatches(HostBatchIterator):
    """Batches of records, whatever the state of the run; counts the records that cannot be used."""

    def __init__(self, experiment: Experiment, packer: Packer, forward: Forward, mesh: Mesh, rows: ProcessRows):
        """Opens the records; see `HostBatchIterator`.

        Args:
          experiment: which records, and in which order.
          packer: makes the rows.
          forward: says how they lie on the mesh.
          mesh: where they go.
          rows: which of a batch this process has.
        """
        super().__init__(experiment.data, packer, experiment.objective, seed=experiment.seed, process_index=rows.group,
                         process_count=rows.num_groups)
        self._mesh, self._own_rows, self._forward = mesh, rows, forward
        self.bad_records: collections.Counter[str] = collections.Counter()
        self._named: set[BadRecord] = set()

    @property
    def at_rest(self) -> bool:
        """See `BatchSource.at_rest`: after every batch."""
        return True

    def draw(self, state: TrainState, frozen: nnx.State) -> Drawn:
        """See `BatchSource.draw`."""
        host = next(self)
        # A reason without what differs from record to record.
        self.bad_records.update(record.reason.partition(":")[0] for record in host.bad_records)
        for record in host.bad_records:
            if record not in self._named:  # each once, however often it comes again
                self._named.add(record)
                _LOG.warning("left out %s", record)
        shardings = on_mesh(self._mesh, self._forward.layout(host.batch))
        placed = jax.tree.map(self._own_rows.place, host.batch, shardings)
        return Drawn(placed, host.batch, tuple(name for row in host.record_ids for name in row if name))

    def set_state(self, state: dict[str, Any]) -> None:
        """See `BatchSource.set_state`."""
        try:
            super().set_state(state)
        except DataError as error:  # the records are not those of the run so far
            raise BadInput(str(error)) from error
