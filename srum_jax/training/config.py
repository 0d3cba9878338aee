"""What is trained, and how a run goes. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
import math
import os

from srum_jax.errors import BadInput


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank training of some linear maps."""

    rank: int = 16
    alpha: float = 32.0  # the difference is scaled by alpha / rank
    # Patterns, as in a shell, over the linear maps that the model's architecture lets LoRA name.
    targets: tuple[str, ...] = ("query", "key", "value", "out", "gate", "up", "down")

    def __post_init__(self):
        if self.rank < 1:
            raise BadInput(f"model.lora.rank: expected a positive number, found {self.rank}.")
        if not 0 < self.alpha < math.inf:
            raise BadInput(f"model.lora.alpha: expected a positive number, found {self.alpha}.")

    @property
    def scale(self) -> float:
        """Of the difference."""
        return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Where the weights come from, and which of them are trained."""

    checkpoint: str = ""  # a published checkpoint's directory, or converted weights
    family: str = ""  # of the model; empty: what the checkpoint is
    parts: tuple[str, ...] = ()  # optional parts to load beside those that training needs
    trainable: tuple[str, ...] = ("default",)  # presets of the family, and patterns over parameter names as in a shell
    timestep_shift: float | None = None  # of the training times; None: what the model's config.json says
    lora: LoraConfig | None = None  # train low-rank factors alone, whatever `trainable` says

    def __post_init__(self):
        object.__setattr__(self, "checkpoint", os.path.expanduser(self.checkpoint))


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Steps, intervals, accumulation."""

    steps: int = 1000  # updates
    accumulation_steps: int = 1  # micro-batches per update
    log_every: int = 10  # updates between lines
    save_every: int = 250  # updates between checkpoints; the last update is always saved
    keep: int = 3  # checkpoints that stay
    profile_first_step: int | None = None  # the first update of a profiler trace; None: only when one is asked for
    profile_steps: int = 3  # updates of a trace

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise BadInput(f"training.{field.name}: expected a positive number, found {value}.")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The paper's recipe by default."""

    learning_rate: float = 2.5e-5
    schedule: str = "constant"  # after warm-up: "constant", or "cosine" down to min_learning_rate
    warmup_steps: int = 500
    total_steps: int = 0  # where the cosine ends
    min_learning_rate: float = 1e-7
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-15
    weight_decay: float = 0.0
    clip_norm: float = 1.0  # of the gradient of all parameters together

    def __post_init__(self):
        if self.schedule not in ("constant", "cosine"):
            raise BadInput(f"optimizer.schedule: expected constant or cosine, found {self.schedule!r}.")
        if self.schedule == "cosine" and self.total_steps <= self.warmup_steps:
            raise BadInput(f"optimizer.total_steps: expected more than warmup_steps {self.warmup_steps} with "
                             f"schedule cosine, found {self.total_steps}.")
        for name in ("learning_rate", "eps", "clip_norm"):
            if not 0 < getattr(self, name) < float("inf"):
                raise BadInput(f"optimizer.{name}: expected a positive number, found {getattr(self, name)}.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(f"optimizer.{name}: expected a number in [0, 1), found {getattr(self, name)}.")
        for name in ("warmup_steps", "weight_decay", "min_learning_rate"):
            if getattr(self, name) < 0:
                raise BadInput(f"optimizer.{name}: expected at least 0, found {getattr(self, name)}.")


@dataclasses.dataclass(frozen=True)
class EmaConfig:
    """How the parameters are averaged."""

    decay: float = 0.999  # looks back over about 1 / (1 - decay) updates
    warmup: bool = False  # the n-th averaged update has decay (1 + n) / (10 + n) at most: the start is soon forgotten
    start_step: int = 0  # updates before the first that is averaged; until then the average is the parameters

    def __post_init__(self):
        if not 0 < self.decay < 1:
            raise BadInput(f"ema.decay: expected a number between 0 and 1, found {self.decay}.")
        if self.start_step < 0:
            raise BadInput(f"ema.start_step: expected at least 0, found {self.start_step}.")
