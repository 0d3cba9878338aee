"""Drawing picture features: Euler steps of the flow, from noise, away from what no condition would give.

B rows · G features along a side · C their width · Q queries · D width of the language model
"""

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.models.blip3o.dit import DiT
from srum_jax.models.blip3o.flow import GUIDANCE, sampling_sigmas, sampling_timesteps
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
    both = jnp.concatenate([jnp.zeros_like(condition), condition])
    times = jnp.broadcast_to(jnp.asarray(timestep, jnp.float32), (len(both),))
    found = dit(jnp.concatenate([features, features]), times, both, compute).astype(jnp.float32)
    without, conditioned = jnp.split(found, 2)
    return without, conditioned


def guided(without: jax.Array, conditioned: jax.Array, guidance: float) -> jax.Array:
    """Classifier-free guidance (Ho and Salimans, 2022): 1 is the condition's own velocity."""
    return without + guidance * (conditioned - without)


def draw_features(
    dit: DiT, noise: jax.Array, condition: jax.Array, compute: ComputeConfig, *, num_steps: int = 30,
    guidance: float = GUIDANCE, shift: float = 1.0,
) -> jax.Array:
    """Clean features, float32 [B, G, G, C].

    Args:
      dit: the diffusion transformer.
      noise: float32 [B, G, G, C], standard normal.
      condition: [B, Q, D].
      compute: precision.
      num_steps: Euler steps.
      guidance: how far to go from the unconditional velocity.
      shift: of the times.
    """
    sigmas = sampling_sigmas(num_steps, shift)

    def step(x: jax.Array, times: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        timestep, change = times
        return x + change * guided(*velocities(dit, x, timestep, condition, compute), guidance), None

    return jax.lax.scan(step, noise, (jnp.asarray(sampling_timesteps(sigmas)), jnp.asarray(np.diff(sigmas))))[0]
