"""Columns that are measured and not packed: scores of a batch under other weights, see `objectives.columns`."""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from srum_jax.data.example import Batch
from srum_jax.families.family import Forward
from srum_jax.mesh import on_mesh
from srum_jax.objectives.columns import OLD, REFERENCE, ColumnNames
from srum_jax.training.step import draws_of_step


@dataclasses.dataclass(frozen=True)
class MeasuredColumns:
    """Of one batch, on the mesh."""

    image: dict[str, jax.Array]  # float32 [B, C] each
    text: dict[str, jax.Array]  # float32 [B, T] each

    def beside(self, batch: Batch) -> Batch:
        """The batch with these columns in the place of those that it brings under the same names."""
        return dataclasses.replace(batch, image_columns=batch.image_columns | self.image,
                                   text_columns=batch.text_columns | self.text)


class Measuring:
    """Computes the columns that an objective wants and rows do not bring."""

    def __init__(self, columns: ColumnNames, graphdef: nnx.GraphDef, forward: Forward, mesh: Mesh, seed: int):
        """Compiles nothing yet.

        Args:
          columns: of the objective.
          graphdef: of the model.
          forward: the one that training uses: by another one a ratio would not begin at 1.
          mesh: of training.
          seed: of the run.
        """
        self.wants_old, self.wants_reference = (
            any(name in kind for name in (*columns.image, *columns.text)) for kind in (OLD, REFERENCE))
        self._mesh, self._forward = mesh, forward

        def scores(parameters: nnx.State, frozen: nnx.State, batch: Batch, step: jax.Array) -> tuple[Any, Any]:
            found = forward.scores(nnx.merge(graphdef, parameters, frozen), batch,
                                   draws_of_step(forward, seed, step, batch))
            return found.image_error, found.text_log_prob

        self._scores = jax.jit(scores)

    def columns(
        self, batch: Batch, step: jax.Array, frozen: nnx.State, old: nnx.State, reference: nnx.State
    ) -> MeasuredColumns:
        """Those of a batch.

        Args:
          batch: on the mesh.
          step: updates done before the one that gets it, which fix times and noises; int32 [].
          frozen: what is not trained.
          old: the parameters before the first update of the round.
          reference: the parameters that the policy is held to.
        """
        image, text = {}, {}
        layout = on_mesh(self._mesh, self._forward.layout(batch))
        for kind, wanted, parameters in ((OLD, self.wants_old, old), (REFERENCE, self.wants_reference, reference)):
            if not wanted:
                continue
            with jax.set_mesh(self._mesh):
                error, log_prob = self._scores(parameters, frozen, batch, step)
            for name, value in zip(kind, (-error, error), strict=True):
                if name in batch.image_columns:
                    image[name] = jax.device_put(value, layout.image_columns[name])
            if kind[0] in batch.text_columns:
                text[kind[0]] = jax.device_put(log_prob, layout.text_columns[kind[0]])
        return MeasuredColumns(image, text)
