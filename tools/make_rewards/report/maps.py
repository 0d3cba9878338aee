"""Reward maps of one image for the page: computed by `reward_map`, written so that no value changes.

A map is piecewise constant, so runs of equal tokens and of equal rows say all of it in a few hundred bytes:

    {"values": [0, 0.5, -0.2], "rows": [[3, 8, 0], [5, 2, 0, 4, 1, 2, 0]]}

are 3 rows of 8 tokens with value 0, then 5 rows with 2 tokens 0, 4 tokens 0.5 and 2 tokens 0. Values are float32.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from srum_jax.rewards.boxes import Box
from srum_jax.rewards.reward_map import RewardMapConfig, reward_map

CONFIGS = {"paper": RewardMapConfig.paper(), "official": RewardMapConfig.official()}


@dataclasses.dataclass(frozen=True)
class TokenMap:
    """R on the token grid, and the global factor."""

    R: np.ndarray  # float32 [h, w]
    alpha: float | None  # None: the variant needs a global score, and there is none

    def share_negative(self, reference_coefficient: float) -> float | None:
        """Share of tokens whose factor alpha R + lambda_c lies below 0; None without alpha."""
        if self.alpha is None:
            return None
        return float(np.mean(np.float32(self.alpha) * self.R + np.float32(reference_coefficient) < 0))


def token_grid(width: int, height: int, pixels_per_token: int) -> tuple[int, int]:
    """Rows and columns of latent tokens of an image."""
    return max(1, round(height / pixels_per_token)), max(1, round(width / pixels_per_token))


def token_maps(
    regions: Sequence[Mapping[str, Any]], global_score: float | None, *, width: int, height: int,
    pixels_per_token: int, provider: str,
) -> dict[str, TokenMap]:
    """The maps of both variants.

    Args:
      regions: with `box` and `score`.
      global_score: final, or None.
      width: pixels of the stored image.
      height: likewise.
      pixels_per_token: along each side.
      provider: of the boxes.
    """
    boxes = [(Box(*region["box"]), region["score"]) for region in regions]
    maps = {}
    for name, config in CONFIGS.items():
        has_alpha = global_score is not None or name == "official"
        found = reward_map(boxes, global_score, width=width, height=height,
                           grid=token_grid(width, height, pixels_per_token),
                           config=config if has_alpha else dataclasses.replace(config, use_global=False),
                           provider=provider)
        maps[name] = TokenMap(found.R, found.alpha if has_alpha else None)
    return maps


def encode(values: np.ndarray) -> dict[str, Any]:
    """A map [h, w] as runs."""
    levels, places = np.unique(values, return_inverse=True)
    rows = []
    for row, equal in itertools.groupby(places.reshape(values.shape).tolist()):
        runs = [number for place, run in itertools.groupby(row) for number in (len(list(run)), place)]
        rows.append([len(list(equal)), *runs])
    return {"values": [short(level) for level in levels], "rows": rows}


def short(value: float) -> float:
    """The number with the fewest digits that is the same in float32."""
    number = float(str(np.float32(value)))
    return int(number) if number.is_integer() else number
