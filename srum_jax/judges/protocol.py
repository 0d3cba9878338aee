"""Who answers the questions about an image."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from srum_jax.rewards.judgement.calls import Call, Reply


class Judge(Protocol):
    """Answers calls, many at a time."""

    def answer(self, calls: Sequence[tuple[np.ndarray | None, Call]]) -> list[Reply]:
        """One reply per pair of image (uint8 [H, W, 3]; None: none is shown) and call, in order."""
