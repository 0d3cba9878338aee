"""AdamW with clipping and warm-up, as the reference's recipe has it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from srum_jax.training.balance import balance_directions
from srum_jax.training.config import OptimizerConfig


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


def make_optimizer(config: OptimizerConfig, *, balanced: bool = False) -> optax.GradientTransformationExtraArgs:
    """Clipping, then AdamW. With float32 parameters the second moment is float32, and all arithmetic.

    The second moment has no smaller form: with beta2 = 0.95 a squared gradient that differs by less than 8 %
    from it would move it by less than bfloat16 can tell, so that rounding would decide.

    Parameters whose gradient is exactly zero stay where they are, unless decayed. `balanced`: first both directions
    are scaled to one norm, see `balance_directions`, and `update` takes `of_generation`.
    """
    return optax.chain(
        *([balance_directions()] if balanced else []),
        _clip_by_global_norm(config.clip_norm),
        optax.adamw(learning_rate_schedule(config), b1=config.beta1, b2=config.beta2, eps=config.eps,
                    weight_decay=config.weight_decay, mu_dtype=config.first_moment_dtype),
    )


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Scales by `min(1, max_norm / (norm + 1e-6))`, the reference's rule; optax has no 1e-6."""

    def update(updates, state, params=None):
        del params
        scale = jnp.minimum(1.0, max_norm / (optax.global_norm(updates) + 1e-6))
        return jax.tree.map(lambda u: u * scale.astype(u.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
