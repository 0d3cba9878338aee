"""Drawing picture features: Euler steps of the flow, from noise, away from what no condition would give.

B rows · G features along a side · C their width · Q queries · D width of the language model
"""

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.families.blip3o.sampler import FeatureSampler
from srum_jax.models.blip3o.dit import DiT
from srum_jax.models.blip3o.flow import sampling_sigmas, sampling_timesteps
from srum_jax.models.compute import ComputeConfig


def velocities(
    dit: DiT, features: jax.Array, timestep: jax.Array, condition: jax.Array, compute: ComputeConfig
) -> tuple[jax.Array, jax.Array]:
    """Without and with the condition, float32 [B, G, G, C] each, from one pass over twice the rows.

    Args:
      dit: the diffusion transformer.
      features: float32 [B, G, G, C].
      timestep: float32 or int32 [], on the scale of the network.
      condition: [B, Q, D]; without it is zeros, before any projection.
      compute: precision.
    """
    # The two of a row lie side by side, so that rows stay on their devices.
    both = side_by_side(jnp.zeros_like(condition), condition)
    times = jnp.broadcast_to(jnp.asarray(timestep, jnp.float32), (len(both),))
    found = dit(side_by_side(features, features), times, both, compute).astype(jnp.float32)
    return found[::2], found[1::2]


def side_by_side(first: jax.Array, second: jax.Array) -> jax.Array:
    """Rows of two batches in turns: two [B, ...] to [2 B, ...]."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def guided(without: jax.Array, conditioned: jax.Array, guidance: float) -> jax.Array:
    """Classifier-free guidance (Ho and Salimans, 2022): 1 is the condition's own velocity."""
    return without + guidance * (conditioned - without)


def draw_features(
    dit: DiT, noise: jax.Array, condition: jax.Array, sampler: FeatureSampler, compute: ComputeConfig
) -> tuple[jax.Array, jax.Array]:
    """Clean features, and those that every step has in view: where it would lead if the velocity stayed what it is.

    Args:
      dit: the diffusion transformer.
      noise: float32 [B, G, G, C], standard normal.
      condition: [B, Q, D].
      sampler: steps, guidance, shift of the times.
      compute: precision.

    Returns:
      float32 [B, G, G, C] and [steps, B, G, G, C], which costs nothing where it is not used.
    """
    sigmas = sampling_sigmas(sampler.num_steps, sampler.shift)

    def step(x: jax.Array, times: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        timestep, sigma, change = times
        velocity = guided(*velocities(dit, x, timestep, condition, compute), sampler.guidance)
        return x + change * velocity, x - sigma * velocity

    steps = (sampling_timesteps(sigmas), sigmas[:-1], np.diff(sigmas))
    return jax.lax.scan(step, noise, tuple(map(jnp.asarray, steps)))
