"""The exact log likelihood of data under a flow model, to examine rewards with; never a reward itself.

    dx/dt = v(x, t) from data (t = 0) to noise (t = 1)
    log p(x0) = log N(x1; 0, I) + integral over t of div v(x_t, t)

The divergence is Hutchinson's estimate z . (dv/dx z) with one probe z for all that is compared (Song et al.,
arXiv 2011.13456, section 4.3); the integral and the path are taken by the midpoint rule.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def flow_log_likelihood(
    velocity: Callable[[jax.Array, jax.Array], jax.Array], x0: jax.Array, probe: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Integrates from data to noise; 2 `steps` evaluations of the velocity, of which one half with a `jvp`.

    Args:
      velocity: (x float32 [..., D], t float32 []) -> float32 [..., D]; rows do not influence each other.
      x0: float32 [..., D].
      probe: Rademacher values (1 or -1) [..., D].
      steps: of equal length; 20 or more.

    Returns:
      log p(x0), float32 [...], and x1 float32 [..., D].
    """
    dt = 1.0 / steps

    def step(carry, t):
        x, integral = carry
        middle = x + dt / 2 * velocity(x, t)
        v, change = jax.jvp(lambda y: velocity(y, t + dt / 2), (middle,), (probe,))
        return (x + dt * v, integral + dt * jnp.sum(probe * change, axis=-1)), None

    times = jnp.arange(steps, dtype=jnp.float32) * dt
    (x1, integral), _ = jax.lax.scan(step, (x0, jnp.zeros(x0.shape[:-1], jnp.float32)), times)
    return integral - 0.5 * jnp.sum(jnp.square(x1) + math.log(2 * math.pi), axis=-1), x1
