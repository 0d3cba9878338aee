"""What an objective is: settings that name columns to lie beside the tokens. `loss.py` makes a loss of them."""

from typing import Protocol

import numpy as np

from srum_jax.objectives.columns import ColumnNames, Judged
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


class RecordObjective(Objective, Protocol):
    """An objective that can learn from records."""

    def columns_of(self, judged: Judged, grid: Grid) -> dict[str, np.ndarray]:
        """The image columns of a judged picture, float32 [rows, columns] each."""
