"""What is trained, and how a run goes. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
import math
import os

from srum_jax.errors import check
from srum_jax.models.compute import QUANTIZED_DTYPES

# With more, a mean of squares that is rounded to bfloat16 moves by less than the rounding; see `make_optimizer`.
_LARGEST_ROUNDED_BETA2 = 0.95


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank training of some linear maps."""

    rank: int = 16
    alpha: float = 32.0  # the difference is scaled by alpha / rank
    # Patterns, as in a shell, over the linear maps that the model's architecture lets LoRA name.
    targets: tuple[str, ...] = ("query", "key", "value", "out", "gate", "up", "down")

    def __post_init__(self):
        check("model.lora.rank", self.rank >= 1, "a positive number", self.rank)
        check("model.lora.alpha", 0 < self.alpha < math.inf, "a positive number", self.alpha)

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
    # Keep the matrices of all layers as "int8" or "int4"; none of them can then be trained itself. None: floats.
    quantize: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "checkpoint", os.path.expanduser(self.checkpoint))
        shift = self.timestep_shift
        check("model.timestep_shift", shift is None or 0 < shift < math.inf, "a positive number", shift)
        check("model.quantize", self.quantize in (None, *QUANTIZED_DTYPES),
              f"one of {', '.join(QUANTIZED_DTYPES)}, or null", self.quantize)


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
            check(f"training.{field.name}", value is None or value >= 1, "a positive number", value)


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
    first_moment_dtype: str = "float32"  # or "bfloat16", in which the mean of gradients takes half of the memory
    second_moment_dtype: str = "float32"  # or "bfloat16", the same for that of their squares; beta2 at most 0.95

    def __post_init__(self):
        check("optimizer.schedule", self.schedule in ("constant", "cosine"), "constant or cosine", self.schedule)
        check("optimizer.total_steps", self.schedule == "constant" or self.total_steps > self.warmup_steps,
              f"more than warmup_steps {self.warmup_steps} with schedule cosine", self.total_steps)
        for name in ("first_moment_dtype", "second_moment_dtype"):
            check(f"optimizer.{name}", getattr(self, name) in ("float32", "bfloat16"), "float32 or bfloat16",
                  getattr(self, name))
        check("optimizer.second_moment_dtype",
              self.second_moment_dtype == "float32" or self.beta2 <= _LARGEST_ROUNDED_BETA2,
              f"float32 with beta2 above {_LARGEST_ROUNDED_BETA2}, where rounding would decide",
              f"bfloat16 with beta2 {self.beta2}")
        for name in ("learning_rate", "eps", "clip_norm"):
            value = getattr(self, name)
            check(f"optimizer.{name}", 0 < value < math.inf, "a positive number", value)
        for name in ("beta1", "beta2"):
            check(f"optimizer.{name}", 0 <= getattr(self, name) < 1, "a number in [0, 1)", getattr(self, name))
        for name in ("warmup_steps", "weight_decay", "min_learning_rate"):
            check(f"optimizer.{name}", getattr(self, name) >= 0, "at least 0", getattr(self, name))


@dataclasses.dataclass(frozen=True)
class EmaConfig:
    """How the parameters are averaged."""

    decay: float = 0.999  # looks back over about 1 / (1 - decay) updates
    warmup: bool = False  # the n-th averaged update has decay (1 + n) / (10 + n) at most: the start is soon forgotten
    start_step: int = 0  # updates before the first that is averaged; until then the average is the parameters

    def __post_init__(self):
        check("ema.decay", 0 < self.decay < 1, "a number between 0 and 1", self.decay)
        check("ema.start_step", self.start_step >= 0, "at least 0", self.start_step)
