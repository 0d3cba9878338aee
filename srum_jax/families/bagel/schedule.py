"""Times at which the generation ODE is evaluated."""

import jax
import jax.numpy as jnp

from srum_jax.objectives.flow_path import shift_timestep


def denoise_schedule(num_timesteps: int, shift: float) -> tuple[jax.Array, jax.Array]:
    """Shifted times from 1 (noise) towards 0 (data), evenly spaced before the shift.

    `num_timesteps` points make `num_timesteps - 1` steps: `x <- x - velocity(x, t) * dt`.

    Args:
      num_timesteps: at least 2; both ends count.
      shift: positive; above 1, more of the steps lie near noise.

    Returns:
      float32 [num_timesteps - 1] times t, falling from exactly 1; float32 [num_timesteps - 1] step sizes dt > 0.

    Raises:
      ValueError: an argument is out of range.
    """
    if num_timesteps < 2:
        raise ValueError(f"num_timesteps: expected at least 2, found {num_timesteps}.")
    if not shift > 0:
        raise ValueError(f"shift: expected a positive number, found {shift}.")
    times = shift_timestep(jnp.linspace(1.0, 0.0, num_timesteps, dtype=jnp.float32), shift)
    return times[:-1], times[:-1] - times[1:]
