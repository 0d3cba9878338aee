"""Steps along a flow that are random, so that each has a density (Flow-GRPO, arXiv 2505.05470, section 4.2).

From time t to t' < t, dt = t' - t < 0, with s = a sqrt(t / (1 - t)):

    mean = x (1 + s^2 / (2t) dt) + v (1 + s^2 (1 - t) / (2t)) dt,       x' = mean + s sqrt(-dt) z
    log p = mean over values of [-(x' - mean)^2 / (2 std^2) - log std - log(2 pi) / 2]

The mean and not the sum over values, which would be as many times larger; clip widths go with it. The coefficients-
preserving step (arXiv 2509.05952) keeps the marginal's noise level instead.

All in float32: a trajectory in bfloat16 breaks a ratio of 1.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class GaussianStep:
    """What the next x is drawn from."""

    mean: jax.Array  # float32 [..., D]
    std: float

    def sample(self, noise: jax.Array) -> jax.Array:
        """The next x under a standard normal draw, [..., D]."""
        return self.mean + self.std * noise

    def log_prob(self, following: jax.Array) -> jax.Array:
        """Mean over values, float32 [...]."""
        deviation = jnp.square(following - self.mean) / (2 * self.std**2)
        return jnp.mean(-deviation, axis=-1) - math.log(self.std) - math.log(2 * math.pi) / 2

    def divergence(self, other: "GaussianStep") -> jax.Array:
        """KL of this from another with the same noise, mean over values, float32 [...]."""
        return jnp.mean(jnp.square(self.mean - other.mean), axis=-1) / (2 * self.std**2)


def stochastic_step(
    x: jax.Array, velocity: jax.Array, t: float, following: float, *, noise_level: float, cap: float
) -> GaussianStep:
    """One step of the stochastic equation with the flow's marginals.

    Args:
      x, velocity: float32 [..., D].
      t, following: times, t > following.
      noise_level: a; 0 is the Euler step.
      cap: stands for t in the divisor of s at t = 1, where there would be none: the schedule's second time.
    """
    dt = following - t
    s = noise_level * math.sqrt(t / (1 - (cap if t >= 1 else t)))
    drift = s**2 / (2 * t)
    return GaussianStep(x * (1 + drift * dt) + velocity * (1 + drift * (1 - t)) * dt, s * math.sqrt(-dt))


def coefficients_preserving_step(
    x: jax.Array, velocity: jax.Array, t: float, following: float, *, noise_level: float
) -> GaussianStep:
    """One step whose result is as noisy as time `following` says; noise level 0 is the Euler step."""
    std = following * math.sin(noise_level * math.pi / 2)
    data, noise = x - t * velocity, x + (1 - t) * velocity
    return GaussianStep(data * (1 - following) + noise * math.sqrt(max(following**2 - std**2, 0.0)), std)
