"""Settings of the rounds. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
import os

from srum_jax.errors import BadInput
from srum_jax.inference.settings import TextSampler
from srum_jax.rewards.dual_config import DualRewards
from srum_jax.rewards.groups import ALPHAS, STD_SCALES

BOTH, ALTERNATE, GENERATION, UNDERSTANDING = DIRECTIONS = ("both", "alternate", "generation", "understanding")
CURRENT, INITIAL, EMA = SCORERS = ("current", "initial", "ema")
_CAPTION = TextSampler(max_tokens=128, temperature=1.0)


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """What is drawn in a round and how it is rewarded.

    Where the comment says "ours", the paper's value is not known.
    """

    prompts: str = ""  # file of prompts, as `generate` reads it
    pictures: str = ""  # folder of pictures, for captions
    prompts_per_round: int = 64  # ours; 2 to 1 is the proportion of the paper's data
    pictures_per_round: int = 32  # ours
    group_size: int = 8  # outputs for one input; ours
    steps_per_round: int = 1  # updates that share the outputs of a round; ours: one, so that they are fresh
    directions: str = "both"  # which are trained: both; alternate, in turns; generation; understanding
    scorer: str = "current"  # whose likelihood is the reward: current, initial or ema; ours
    rewards: DualRewards = dataclasses.field(default_factory=DualRewards)
    shuffle_rewards: bool = False  # a control: rewards change places within each group, so that they tell nothing
    min_gap: float = 1e-5  # best and worst of a group that lie no further apart make no pair; ours
    advantage_scale: str = "group"  # whose spread divides an advantage: group, batch or none
    alpha_of: str = "positive"  # weight of a picture by its advantage: positive, signed, srum or exponential; ours
    height: int | None = None  # pixels of what is drawn; None: the default of the model
    width: int | None = None
    sampler: object | None = None  # of pictures, of the family's kind; None: the published settings
    caption: TextSampler = _CAPTION  # ours
    batch_size: int = 64  # outputs that are drawn or scored at once
    max_flat_rounds: int = 3  # rounds one after the other in which no reward differs, before the run is ended
    gradient_norms: bool = True  # compare the gradients of both directions in each logged step: one more backward pass
    audit_every: int = 8  # rounds between audits: fixed inputs, scored by the initial model; 0: none
    audit_inputs: int = 16  # prompts, and as many pictures, of an audit
    audit_stop: bool = True  # end the run once the initial model's rewards have clearly fallen; else warn

    def __post_init__(self):
        for name in ("prompts", "pictures"):
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))
        for name in ("prompts_per_round", "pictures_per_round", "steps_per_round", "batch_size", "max_flat_rounds",
                     "audit_inputs"):
            if getattr(self, name) < 1:
                raise BadInput(f"rollouts.{name}: expected a positive number, found {getattr(self, name)}.")
        if self.audit_every < 0:
            raise BadInput(f"rollouts.audit_every: expected 0 or a positive number, found {self.audit_every}.")
        if self.group_size < 2:
            raise BadInput(f"rollouts.group_size: expected at least 2 outputs to compare, found {self.group_size}.")
        for name, choices in (("directions", DIRECTIONS), ("scorer", SCORERS), ("alpha_of", ALPHAS),
                              ("advantage_scale", STD_SCALES)):
            if getattr(self, name) not in choices:
                raise BadInput(f"rollouts.{name}: expected one of {', '.join(choices)}, found {getattr(self, name)!r}.")
        if not 0 <= self.min_gap < float("inf"):
            raise BadInput(f"rollouts.min_gap: expected a finite number of at least 0, found {self.min_gap}.")
        for name, count in (("prompts_per_round", self.prompts_per_round),
                            ("pictures_per_round", self.pictures_per_round)):
            if count % self.steps_per_round:
                raise BadInput(f"rollouts.{name}: expected a multiple of steps_per_round {self.steps_per_round}, found "
                               f"{count}.")

    def directions_of(self, number: int) -> tuple[str, ...]:
        """Which directions round `number` has."""
        if self.directions == BOTH:
            return GENERATION, UNDERSTANDING
        if self.directions == ALTERNATE:
            return ((GENERATION, UNDERSTANDING)[number % 2],)
        return (self.directions,)

    def draws(self, direction: str) -> bool:
        """Whether any round has this direction."""
        return self.directions in (BOTH, ALTERNATE, direction)
