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
    """Clipping, then AdamW. With float32 parameters all arithmetic is float32, and moments that are not kept so.

    A second moment in bfloat16 is rounded to 8 bits after every update. With beta2 = 0.95 that changes its root by less
    than 1 % (root of the mean square; for normal, nearly constant, rare, and a thousandfold falling gradients), with
    0.99 by up to 15 %, and with 0.999 it no longer falls. So `OptimizerConfig` refuses it above 0.95.

    Parameters whose gradient is exactly zero stay where they are, unless decayed. `balanced`: first both directions
    are scaled to one norm, see `balance_directions`, and `update` takes `of_generation`.
    """
    return optax.chain(
        *([balance_directions()] if balanced else []),
        _clip_by_global_norm(config.clip_norm),
        _keep_second_moment(optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps,
                                                mu_dtype=config.first_moment_dtype), config.second_moment_dtype),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(learning_rate_schedule(config)),
    )


def _keep_second_moment(adam: optax.GradientTransformation, dtype: str) -> optax.GradientTransformation:
    """Adam whose second moment is rounded between updates; optax can do so to the first."""

    def cast(state: optax.ScaleByAdamState, dtype: str) -> optax.ScaleByAdamState:
        return state._replace(nu=jax.tree.map(lambda moment: moment.astype(dtype), state.nu))

    def update(updates, state, params=None):
        updates, state = adam.update(updates, cast(state, "float32"), params)
        return updates, cast(state, dtype)

    return optax.GradientTransformation(lambda params: cast(adam.init(params), dtype), update)


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Scales by `min(1, max_norm / (norm + 1e-6))`, the reference's rule; optax has no 1e-6."""

    def update(updates, state, params=None):
        del params
        scale = jnp.minimum(1.0, max_norm / (optax.global_norm(updates) + 1e-6))
        return jax.tree.map(lambda u: u * scale.astype(u.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
