"""What a run is: settings that are each defined on their own floor, composed."""

import dataclasses
from collections.abc import Callable

from etils import epath

from srum_jax.data.config import DataConfig, Rows
from srum_jax.errors import check
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.columns import REFERENCE
from srum_jax.objectives.config import Joint, PolicyGradient, Preference, RewardWeighted
from srum_jax.rollouts.config import BOTH, INITIAL, RolloutConfig
from srum_jax.training.config import EmaConfig, ModelSource, OptimizerConfig, TrainingConfig

# Makes what an experiment needs before it can run (records, a base model) and fills in where that lies.
Prepare = Callable[["Experiment", epath.Path], "Experiment"]

_MAX_SEED = 1 << 32  # JAX keys drop the bits above: seeds that differ only there would share their noise


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides what a run computes."""

    name: str
    model: ModelSource = dataclasses.field(default_factory=ModelSource)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    rows: Rows | None = None  # of the family's kind; None: with its defaults
    objective: RewardWeighted | Preference | PolicyGradient | Joint = dataclasses.field(default_factory=RewardWeighted)
    rollouts: RolloutConfig | None = None  # of online methods, which read no records
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    ema: EmaConfig | None = None  # keep an average of the trained parameters
    compute: ComputeConfig = dataclasses.field(default_factory=ComputeConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    seed: int = 0  # of the order of records, their random draws, and the noise

    def __post_init__(self):
        check("seed", 0 <= self.seed < _MAX_SEED, f"a number from 0 to {_MAX_SEED - 1}", self.seed)

    @property
    def balanced(self) -> bool:
        """Whether both directions are scaled to one norm."""
        return isinstance(self.objective, Joint) and self.objective.balance == "norm"

    @property
    def sides_every(self) -> int:
        """Steps after which the gradients of both directions are compared; 0 for runs that have one."""
        both = self.rollouts is not None and self.rollouts.directions == BOTH and isinstance(self.objective, Joint)
        return self.training.log_every if both and self.rollouts.gradient_norms else 0

    @property
    def keeps_initial(self) -> bool:
        """Whether rounds need the weights with which the run began: they score, audit, or are a reference."""
        rollouts, columns = self.rollouts, self.objective.columns
        return rollouts is not None and bool(rollouts.scorer == INITIAL or rollouts.audit_every
                                             or {*columns.image, *columns.text} & {*REFERENCE})
