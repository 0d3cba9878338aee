"""The straight path between data and noise, and its times.

    x_t = (1 - t) x0 + t eps          t = 0 is data, t = 1 is noise
    dx_t / dt = eps - x0              the velocity, pointing from data to noise

For x0 = 2, eps = -1, t = 0.25: x_t = 1.25, velocity = -3.
"""

import jax
import jax.numpy as jnp


def shift_timestep(timestep: jax.Array, shift: float) -> jax.Array:
    """Moves times towards noise: `shift * t / (1 + (shift - 1) * t)`; 0 and 1 stay where they are.

    Args:
      timestep: float [...], in [0, 1].
      shift: positive; 1 changes nothing, larger values spend more time near noise.
    """
    return shift * timestep / (1 + (shift - 1) * timestep)


def timestep_from_logit(logit: jax.Array, shift: float) -> jax.Array:
    """Training time of a raw normal draw: its sigmoid, shifted. Minus infinity gives exactly 0 (a clean image)."""
    return shift_timestep(jax.nn.sigmoid(logit.astype(jnp.float32)), shift)


def interpolate(latent: jax.Array, noise: jax.Array, timestep: jax.Array) -> jax.Array:
    """`x_t`, in float32.

    Args:
      latent: clean latents [..., P].
      noise: [..., P].
      timestep: float32 [...].
    """
    t = timestep[..., None]
    return (1 - t) * latent.astype(jnp.float32) + t * noise.astype(jnp.float32)


def velocity_target(latent: jax.Array, noise: jax.Array) -> jax.Array:
    """`eps - x0`, in float32: what the model's velocity is regressed on."""
    return noise.astype(jnp.float32) - latent.astype(jnp.float32)


def velocity_error(velocity: jax.Array, latent: jax.Array, noise: jax.Array) -> jax.Array:
    """Squared error of the velocity, averaged over the values of each token, float32 [...].

    Args:
      velocity: of the model [..., P].
      latent, noise: ends of the path [..., P].
    """
    return jnp.mean(jnp.square(velocity.astype(jnp.float32) - velocity_target(latent, noise)), axis=-1)
