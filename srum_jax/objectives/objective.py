"""What an objective is: it names columns that lie beside the tokens, and turns scores and columns into a loss."""

from typing import Any, Protocol

import jax
import numpy as np

from srum_jax.objectives.columns import ColumnNames, Judged
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores
from srum_jax.objectives.weighted_sum import WeightedSum
from srum_jax.rewards.token_grid import Grid


class Objective(Protocol):
    """A frozen dataclass, the field `objective` of an experiment.

    Attributes:
      columns: that a batch has to bring.
    """

    columns: ColumnNames

    def check(self, image_error: str) -> None:
        """Returns if models can be trained whose image error is of this kind ("flow" or "log_prob").

        Raises:
          BadInput: this objective cannot use such errors.
        """

    def totals(self, masks: TokenMasks, columns: Columns) -> Any:
        """Denominators of the means, of all that `masks` covers; a tree of float32 []."""

    def __call__(
        self, scores: TokenScores, masks: TokenMasks, columns: Columns, totals: Any
    ) -> tuple[jax.Array, dict[str, WeightedSum]]:
        """A (micro-)batch's share of the step's loss, float32 [], and sums with their weights to be logged.

        Args:
          scores, masks, columns: of this batch.
          totals: of the *whole step*; shares of micro-batches then simply add up.
        """


class RecordObjective(Objective, Protocol):
    """An objective that can learn from records."""

    def columns_of(self, judged: Judged, grid: Grid) -> dict[str, np.ndarray]:
        """The image columns of a judged picture, float32 [rows, columns] each."""
