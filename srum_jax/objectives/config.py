"""Coefficients of the objectives. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Coefficients of the terms."""

    reward_coefficient: float = 1.0  # of the reward-weighted term
    reference_coefficient: float = 0.5  # lambda_c, of the plain term towards the reference
    text_coefficient: float = 1.0  # of the cross entropy of understanding samples
    reweight_text: bool = False  # weight each text by 1 / sqrt(its tokens) instead of each token alike
    factor_floor: float | None = None  # least value of reward_coefficient * alpha * R + reference_coefficient

    def __post_init__(self):
        for name in ("reward_coefficient", "reference_coefficient", "text_coefficient"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"objective.{name}: expected a finite number of at least 0, found {value}.")
