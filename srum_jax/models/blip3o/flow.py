"""Times of BLIP3o's flow matching: 0 is clean, 1 is noise, and the network is told a thousand times as much."""

import jax
import jax.numpy as jnp
import numpy as np

NUM_TRAIN_TIMES = 1000
TIME_SCALE = 1000.0


def shifted(sigma: jax.Array | np.ndarray, shift: float) -> jax.Array | np.ndarray:
    """Times moved towards noise: `shift * s / (1 + (shift - 1) * s)`."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def train_sigmas(shift: float = 1.0) -> np.ndarray:
    """The times that training draws from, float32 [1000], from noise on; a clean picture is not among them."""
    sigma = np.arange(NUM_TRAIN_TIMES, 0, -1, dtype=np.float32) / np.float32(NUM_TRAIN_TIMES)
    return shifted(sigma, np.float32(shift)).astype(np.float32)


def drawn_sigma(uniform: jax.Array, shift: float = 1.0) -> jax.Array:
    """The time of each sample: float32 [B] in [0, 1) to float32 [B]."""
    index = jnp.floor(uniform * NUM_TRAIN_TIMES).astype(jnp.int32)
    return jnp.take(jnp.asarray(train_sigmas(shift)), jnp.clip(index, 0, NUM_TRAIN_TIMES - 1), axis=0)


def sampling_sigmas(num_steps: int, shift: float = 1.0) -> np.ndarray:
    """Times of the steps, and 0 behind them: float32 [num_steps + 1]."""
    sigma = shifted(np.linspace(1.0, 1.0 / num_steps, num_steps).astype(np.float32), np.float32(shift))
    return np.append(sigma, 0.0).astype(np.float32)


def sampling_timesteps(sigmas: np.ndarray) -> np.ndarray:
    """What the network is told in each step: whole numbers, cut off after a product in float32. int32 [num_steps]."""
    return np.trunc(sigmas[:-1] * np.float32(TIME_SCALE)).astype(np.int32)
