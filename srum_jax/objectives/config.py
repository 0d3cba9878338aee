"""Settings of the objectives. Imports no array library but NumPy: `--set` is answered before another is loaded."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from srum_jax.errors import BadInput, check
from srum_jax.objectives.columns import ColumnNames, Judged
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.reward_map import RewardMapConfig, reward_map
from srum_jax.rewards.token_grid import Grid

_REDUCTIONS = ("token", "sequence", "constant")
_BALANCES = ("none", "norm")


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
            check(f"objective.{name}", 0 <= value < math.inf, "a finite number of at least 0", value)

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


@dataclasses.dataclass(frozen=True)
class Preference:
    """The better of two outputs over the worse (`preference.py`). Both lie in one row, see its columns.

    Columns: `pair`, the number of the pair in its row; `side`, 1 for the winner, -1 for the loser, 0 for neither.
    """

    columns: ClassVar[ColumnNames] = ColumnNames(image=("pair", "side"), text=("pair", "side"))

    beta: float = 2.5  # scale of the margin
    gamma_beta_ratio: float = 0.5  # the margin that is asked for, in log probability per token
    smoothing: float = 0.0  # assumed share of pairs that are the wrong way round
    sft_coefficient: float = 0.0  # of minus the winner's mean log probability

    def __post_init__(self):
        check("objective.beta", 0 < self.beta < math.inf, "a positive number", self.beta)
        check("objective.smoothing", 0 <= self.smoothing < 0.5, "a number in [0, 0.5)", self.smoothing)
        for name in ("gamma_beta_ratio", "sft_coefficient"):
            value = getattr(self, name)
            check(f"objective.{name}", 0 <= value < math.inf, "a finite number of at least 0", value)

    def check(self, image_error: str) -> None:
        """See `Objective.check`."""
        _require_log_prob(self, image_error)


@dataclasses.dataclass(frozen=True)
class PolicyGradient:
    """Every output by its advantage (`policy_gradient.py`).

    Columns: `advantage`, of the sequence; `old_log_prob` and `reference_log_prob` of each token, where they are used.
    """

    epsilon_low: float = 0.2  # the ratio is cut off below 1 minus this
    epsilon_high: float = 0.2  # and above 1 plus this
    kl_coefficient: float = 0.0  # of the distance from the reference; above 0 needs its log probabilities
    reduction: str = "token"  # how tokens are added up: token, sequence or constant
    constant_length: int = 1024  # tokens; what a sequence is divided by with reduction constant
    on_policy: bool = True  # one update for each output: the old log probability is the present one

    def __post_init__(self):
        check("objective.epsilon_low", 0 < self.epsilon_low < 1, "a number between 0 and 1", self.epsilon_low)
        check("objective.epsilon_high", 0 < self.epsilon_high < math.inf, "a positive number", self.epsilon_high)
        check("objective.kl_coefficient", 0 <= self.kl_coefficient < math.inf, "a finite number of at least 0",
              self.kl_coefficient)
        check("objective.reduction", self.reduction in _REDUCTIONS, f"one of {', '.join(_REDUCTIONS)}", self.reduction)
        check("objective.constant_length", self.constant_length >= 1, "a positive number", self.constant_length)

    @property
    def columns(self) -> ColumnNames:
        """See `Objective`."""
        names = ["advantage"]
        names += [] if self.on_policy else ["old_log_prob"]
        names += ["reference_log_prob"] if self.kl_coefficient else []
        return ColumnNames(tuple(names), tuple(names))

    def check(self, image_error: str) -> None:
        """See `Objective.check`."""
        _require_log_prob(self, image_error)


@dataclasses.dataclass(frozen=True)
class FlowPolicyGradient:
    """Pictures of a flow by their advantage, clipped (`flow_surrogates.py`); a surrogate.

    Columns: `advantage`, of the picture; `old_error` of each token, where it is used.
    """

    scale: float = 20.0  # c, of errors that are means over values; goes with the widths of the clip; ours
    epsilon_low: float = 0.2  # the ratio is cut off below 1 minus this
    epsilon_high: float = 0.2  # and above 1 plus this
    on_policy: bool = True  # one update for each output: the old error is the present one

    def __post_init__(self):
        check("objective.scale", 0 < self.scale < math.inf, "a positive number", self.scale)
        check("objective.epsilon_low", 0 < self.epsilon_low < 1, "a number between 0 and 1", self.epsilon_low)
        check("objective.epsilon_high", 0 < self.epsilon_high < math.inf, "a positive number", self.epsilon_high)

    @property
    def columns(self) -> ColumnNames:
        """See `Objective`."""
        return ColumnNames(image=("advantage",) if self.on_policy else ("advantage", "old_error"))

    def check(self, image_error: str) -> None:
        """See `Objective.check`."""
        _require_flow(self, image_error, "PolicyGradient")


@dataclasses.dataclass(frozen=True)
class FlowPreference:
    """The better of two pictures of a flow over the worse, against a reference (`flow_surrogates.py`); a surrogate.

    Columns: `pair` and `side` as of `Preference`; `reference_error` of each token.
    """

    columns: ClassVar[ColumnNames] = ColumnNames(image=("pair", "side", "reference_error"))

    beta: float = 50.0  # scale of the margin; ours, after the online DPO of Flow-GRPO's authors
    smoothing: float = 0.0  # assumed share of pairs that are the wrong way round

    def __post_init__(self):
        check("objective.beta", 0 < self.beta < math.inf, "a positive number", self.beta)
        check("objective.smoothing", 0 <= self.smoothing < 0.5, "a number in [0, 0.5)", self.smoothing)

    def check(self, image_error: str) -> None:
        """See `Objective.check`."""
        _require_flow(self, image_error, "Preference")


@dataclasses.dataclass(frozen=True)
class Joint:
    """Pictures by one objective and texts by another, each a mean over its own (`loss.py`)."""

    generation: RewardWeighted | Preference | PolicyGradient | FlowPolicyGradient | FlowPreference = (
        dataclasses.field(default_factory=lambda: Preference(beta=5.0, gamma_beta_ratio=0.1)))
    understanding: Preference | PolicyGradient = dataclasses.field(default_factory=Preference)
    generation_coefficient: float = 1.0  # of the loss of pictures
    understanding_coefficient: float = 1.0  # of the loss of texts
    balance: str = "none"  # norm: the gradient of texts gets the norm of that of pictures; one more backward pass

    def __post_init__(self):
        check("objective.balance", self.balance in _BALANCES, f"one of {', '.join(_BALANCES)}", self.balance)
        for name in ("generation_coefficient", "understanding_coefficient"):
            value = getattr(self, name)
            check(f"objective.{name}", 0 <= value < math.inf, "a finite number of at least 0", value)

    @property
    def columns(self) -> ColumnNames:
        """See `Objective`."""
        return ColumnNames(self.generation.columns.image, self.understanding.columns.text)

    def generation_alone(self) -> "Joint":
        """The same without the loss of texts."""
        return dataclasses.replace(self, understanding_coefficient=0.0)

    def check(self, image_error: str) -> None:
        """See `Objective.check`. Texts have log probabilities in every family."""
        self.generation.check(image_error)


def _require_log_prob(objective: Any, image_error: str) -> None:
    if image_error != "log_prob":
        raise BadInput(f"objective: {type(objective).__name__} needs log probabilities of pictures, this family has "
                       f"errors of a {image_error}; give pictures to RewardWeighted, FlowPolicyGradient or "
                       f"FlowPreference and texts to {type(objective).__name__} (Joint, as "
                       "experiments/suder_bagel.py does).")


def _require_flow(objective: Any, image_error: str, exact: str) -> None:
    if image_error != "flow":
        raise BadInput(f"objective: {type(objective).__name__} is a surrogate for pictures of a flow, this family has "
                       f"log probabilities; use {exact}, which is exact.")
