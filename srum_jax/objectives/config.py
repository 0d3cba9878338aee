"""Settings of the objectives. Imports no array library but NumPy: `--set` is answered before another is loaded."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from srum_jax.objectives.columns import ColumnNames, Judged
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.reward_map import RewardMapConfig, reward_map
from srum_jax.rewards.token_grid import Grid

if TYPE_CHECKING:
    import jax

    from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores
    from srum_jax.objectives.weighted_sum import WeightedSum


@dataclasses.dataclass(frozen=True)
class RewardWeighted:
    """The reward-weighted objective (`reward_weighted.py`): coefficients, and how scores become weights."""

    columns: ClassVar[ColumnNames] = ColumnNames(image=("alpha", "reward_map"))

    reward_coefficient: float = 1.0  # of the reward-weighted term
    reference_coefficient: float = 0.5  # lambda_c, of the plain term towards the reference
    text_coefficient: float = 1.0  # of the cross entropy of texts to be predicted
    reweight_text: bool = False  # weight each text by 1 / sqrt(its tokens) instead of each token alike
    factor_floor: float | None = None  # least value of reward_coefficient * alpha * R + reference_coefficient
    reward_map: RewardMapConfig = dataclasses.field(default_factory=RewardMapConfig)

    def __post_init__(self):
        for name in ("reward_coefficient", "reference_coefficient", "text_coefficient"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"objective.{name}: expected a finite number of at least 0, found {value}.")

    def check(self, image_error: str) -> None:
        """See `Objective.check`; errors of any kind will do."""

    def columns_of(self, judged: Judged, grid: Grid) -> dict[str, np.ndarray]:
        """`alpha` and `reward_map`, float32 [rows, columns].

        Raises:
          RewardMapError: the reward map's settings need a score that is absent.
        """
        window = grid.window
        # "unscaled": stored coordinates on the resized picture, as the authors' loader paints them.
        unscaled = self.reward_map.box_space == "unscaled"
        regions = [
            (Box(box.x0 - window.x0, box.y0 - window.y0, box.x1 - window.x0, box.y1 - window.y0), score)
            for box, score in ((region.box, region.score) for region in judged.regions)
        ]
        found = reward_map(
            regions,
            judged.global_score,
            width=grid.width if unscaled else window.width,
            height=grid.height if unscaled else window.height,
            grid=(grid.rows, grid.columns),
            config=self.reward_map,
            provider=judged.provider,
        )
        return {"alpha": np.full(found.R.shape, found.alpha, np.float32), "reward_map": found.R}

    def totals(self, masks: "TokenMasks", columns: "Columns") -> dict[str, "jax.Array"]:
        """See `Objective.totals`."""
        from srum_jax.objectives import reward_weighted  # and with it JAX

        return reward_weighted.totals(self, masks)

    def __call__(
        self, scores: "TokenScores", masks: "TokenMasks", columns: "Columns", totals: dict[str, "jax.Array"]
    ) -> tuple["jax.Array", dict[str, "WeightedSum"]]:
        """See `Objective.__call__`."""
        from srum_jax.objectives import reward_weighted  # and with it JAX

        return reward_weighted.share_of_loss(self, scores, masks, columns, totals)
