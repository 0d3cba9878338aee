"""AdamW with clipping and warm-up, as the reference's recipe has it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax


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
            raise ValueError(f"optimizer.schedule: expected constant or cosine, found {self.schedule!r}.")
        if self.schedule == "cosine" and self.total_steps <= self.warmup_steps:
            raise ValueError(f"optimizer.total_steps: expected more than warmup_steps {self.warmup_steps} with "
                             f"schedule cosine, found {self.total_steps}.")
        for name in ("learning_rate", "eps", "clip_norm"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"optimizer.{name}: expected a positive number, found {getattr(self, name)}.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optimizer.{name}: expected a number in [0, 1), found {getattr(self, name)}.")
        for name in ("warmup_steps", "weight_decay", "min_learning_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimizer.{name}: expected at least 0, found {getattr(self, name)}.")


def learning_rate_schedule(config: OptimizerConfig) -> optax.Schedule:
    """The rate of update k, counted from 0.

    Update k of the warm-up uses `learning_rate * k / warmup_steps`, so the first update changes nothing. The cosine
    reaches `min_learning_rate` at `total_steps`. A number on the host gives a number on the host: reading the rate
    for a log line does not wait for a device.
    """
    least, span = config.min_learning_rate, config.learning_rate - config.min_learning_rate

    def rate(update: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
        xp = jnp if isinstance(update, jax.Array) else np
        if config.schedule == "constant":
            after = config.learning_rate
        else:
            progress = (update - config.warmup_steps) / (config.total_steps - config.warmup_steps)
            after = least + span * (1 + xp.cos(xp.pi * xp.clip(progress, 0.0, 1.0))) / 2
        warmup = config.learning_rate * update / max(config.warmup_steps, 1)
        return xp.where(update < config.warmup_steps, warmup, after)

    return rate


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping, then AdamW. With float32 parameters both moments are float32.

    Parameters whose gradient is exactly zero stay where they are, unless decayed.
    """
    return optax.chain(
        _clip_by_global_norm(config.clip_norm),
        optax.adamw(learning_rate_schedule(config), b1=config.beta1, b2=config.beta2, eps=config.eps,
                    weight_decay=config.weight_decay),
    )


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Scales by `min(1, max_norm / (norm + 1e-6))`, the reference's rule; optax has no 1e-6."""

    def update(updates, state, params=None):
        del params
        scale = jnp.minimum(1.0, max_norm / (optax.global_norm(updates) + 1e-6))
        return jax.tree.map(lambda u: u * scale.astype(u.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
