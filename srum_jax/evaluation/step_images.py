"""Keeps what a model has in view at chosen steps, while its pictures are drawn as any others."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from srum_jax.inference.protocols import Generator
from srum_jax.inference.requests import GeneratedImage, ImageRequest
from srum_jax.inference.settings import TextSampler

if TYPE_CHECKING:
    from flax import nnx


class StepRecorder:
    """A generator that writes the images of steps before it returns the finished ones.

    A unit is committed after its steps are written, so a run that was cut off writes them again, with the same bytes.
    """

    def __init__(self, generator: Generator, steps: Collection[int], write: Callable[[int, int, np.ndarray], object]):
        """Puts it around a generator.

        Args:
          generator: that draws.
          steps: to be kept, from 0.
          write: called with the seed of a request, the step and pixels uint8 [H, W, 3].
        """
        self._generator, self._steps, self._write = generator, frozenset(steps), write

    @property
    def rows_multiple(self) -> int:
        """See `Generator`."""
        return self._generator.rows_multiple

    @property
    def default_size(self) -> tuple[int, int]:
        """See `Generator`."""
        return self._generator.default_size

    def check(self, request: ImageRequest) -> None:
        """See `Generator`."""
        self._generator.check(request)

    def generate(self, requests: Sequence[ImageRequest], *, plan: TextSampler | None = None) -> list[GeneratedImage]:
        """See `Generator`."""
        written: set[tuple[int, int]] = set()  # rows that only fill a batch repeat a request

        def on_step(step: int, total: int, time: float, images: Callable[[], dict[int, np.ndarray]]) -> None:
            if step not in self._steps:
                return
            for number, pixels in images().items():
                seed = requests[number].seed
                if (seed, step) not in written:
                    written.add((seed, step))
                    self._write(seed, step, pixels)

        return self._generator.generate(requests, plan=plan, on_step=on_step)

    def with_parameters(self, parameters: "nnx.State") -> "StepRecorder":
        """See `Generator`."""
        return StepRecorder(self._generator.with_parameters(parameters), self._steps, self._write)
