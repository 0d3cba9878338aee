"""Noise levels of the pixel decoder: those of SDXL, for Euler steps."""

import dataclasses

import numpy as np

from srum_jax.models.blip3o.pixel_config import PixelSchedule


@dataclasses.dataclass(frozen=True)
class PixelTimes:
    """The steps from noise on.

    Attributes:
      timesteps: what the U-Net is told, float32 [num_steps].
      sigmas: standard deviation of the noise before each step, then 0; float32 [num_steps + 1].
    """

    timesteps: np.ndarray
    sigmas: np.ndarray

    @property
    def first_scale(self) -> np.float32:
        """What standard normal noise is multiplied with."""
        return np.sqrt(self.sigmas[0] ** 2 + np.float32(1))


def pixel_times(schedule: PixelSchedule, num_steps: int) -> PixelTimes:
    """Evenly spaced times ("leading"), each with the noise that training had at it.

    Args:
      schedule: of training.
      num_steps: at most as many as training has times.

    Raises:
      ValueError: there are fewer times than steps, or the last of them lies behind training's.
    """
    total = schedule.num_train_timesteps
    spacing = total // max(num_steps, 1)
    timesteps = np.arange(num_steps - 1, -1, -1) * spacing + schedule.steps_offset
    if num_steps < 1 or spacing < 1 or timesteps[0] >= total:
        raise ValueError(f"Pixel decoder: expected 1 to {total} steps whose first time lies below {total}, found "
                         f"{num_steps} (steps_offset {schedule.steps_offset}).")
    root = np.linspace(schedule.beta_start**0.5, schedule.beta_end**0.5, total)
    kept = np.cumprod(1 - root**2)
    sigmas = np.append(np.sqrt((1 - kept) / kept)[timesteps], 0.0)
    return PixelTimes(timesteps.astype(np.float32), sigmas.astype(np.float32))
