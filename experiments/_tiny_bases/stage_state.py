"""What a step of a stage changes, and the step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StageState:
    """What a step changes."""

    step: jax.Array  # int32 []
    parameters: nnx.State
    average: nnx.State
    optimizer: optax.OptState

    @classmethod
    def begin(cls, parameters: nnx.State, optimizer: optax.GradientTransformation) -> "StageState":
        """Before the first step."""
        return cls(jnp.zeros((), jnp.int32), parameters, parameters, optimizer.init(parameters))

    def after(self, gradient: nnx.State, optimizer: optax.GradientTransformation, keep: float) -> "StageState":
        """After a step along a gradient.

        `keep` is the share of the running mean of the weights that a step keeps; at the start of a run it is less, so
        that the mean is over fewer steps.
        """
        updates, moments = optimizer.update(gradient, self.optimizer, self.parameters)
        parameters = optax.apply_updates(self.parameters, updates)
        keep = jnp.minimum(keep, (1.0 + self.step) / (10.0 + self.step))
        average = jax.tree.map(lambda old, value: keep * old + (1 - keep) * value, self.average, parameters)
        return StageState(self.step + 1, parameters, average, moments)


Step = Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]  # (state, inputs) -> (state, losses by name)


def make_step(
    loss_of: Callable[[nnx.State, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]],
    optimizer: optax.GradientTransformation, keep: float, seed: int = 0,
) -> Step:
    """A compiled step of a stage whose state is a `StageState`.

    Args:
      loss_of: (parameters, inputs, key) -> (loss, losses by name).
      optimizer: of the parameters.
      keep: see `StageState.after`.
      seed: of the keys, another one in each step.
    """

    @jax.jit
    def step(state: StageState, inputs: Any) -> tuple[StageState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        (_, losses), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.parameters, inputs, key)
        return state.after(gradient, optimizer, keep), losses | {"gradient_norm": optax.global_norm(gradient)}

    return step


def cosine_adam(steps: int, learning_rate: float) -> optax.GradientTransformation:
    """Adam whose rate rises over 3 % of the steps, and falls to 0 by a cosine."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, max(steps // 33, 1), max(steps, 2), 0.0)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))
