"""Drawing picture features: Euler steps of the flow, from noise, away from what no condition would give.

B rows · G features along a side · C their width · Q queries · D width of the language model
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.families.blip3o.sampler import FeatureSampler
from srum_jax.models.blip3o.dit import DiT
from srum_jax.models.blip3o.flow import sampling_sigmas, sampling_timesteps
from srum_jax.models.compute import ComputeConfig


class FeatureStep(NamedTuple):
    """A step's times, float32 []."""

    timestep: jax.Array  # on the scale of the network
    sigma: jax.Array  # share of noise, 1 at the beginning
    change: jax.Array  # of sigma, negative


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
) -> jax.Array:
    """Clean features, float32 [B, G, G, C].

    Args:
      dit: the diffusion transformer.
      noise: float32 [B, G, G, C], standard normal.
      condition: [B, Q, D].
      sampler: steps, guidance, shift of the times.
      compute: precision.
    """
    steps = feature_steps(sampler)

    def step(x: jax.Array, times: FeatureStep) -> tuple[jax.Array, None]:
        return feature_step(dit, x, condition, times, sampler, compute)[0], None

    return jax.lax.scan(step, noise, jax.tree.map(jnp.asarray, steps))[0]


def feature_steps(sampler: FeatureSampler) -> FeatureStep:
    """All steps, float32 [S] each."""
    sigmas = sampling_sigmas(sampler.num_steps, sampler.shift)
    return FeatureStep(sampling_timesteps(sigmas), sigmas[:-1], np.diff(sigmas))


def feature_step(
    dit: DiT, x: jax.Array, condition: jax.Array, times: FeatureStep, sampler: FeatureSampler, compute: ComputeConfig
) -> tuple[jax.Array, jax.Array]:
    """One step of `draw_features` alone.

    Returns:
      float32 [B, G, G, C] each: x after the step, and where it would lead if the velocity stayed what it is.
    """
    velocity = guided(*velocities(dit, x, times.timestep, condition, compute), sampler.guidance)
    return x + times.change * velocity, x - times.sigma * velocity
