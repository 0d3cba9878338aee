"""What a perfect segmenter would find in a drawn scene: the seen pixels of each object, and the background."""

import dataclasses

import numpy as np

from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes.drawing import Drawing

BACKGROUND_OWNER = -1  # as in `Drawing.owner`


@dataclasses.dataclass(frozen=True)
class TruthMask:
    """One region of a drawing."""

    owner: int  # number of the shape in its scene, or BACKGROUND_OWNER
    mask: np.ndarray  # bool [S, S]: the pixels where it is seen

    @property
    def box(self) -> Box:
        """The smallest box around the mask."""
        return mask_box(self.mask)


def truth_masks(drawing: Drawing, min_area: int = 8) -> tuple[TruthMask, ...]:
    """The background, then every object in the order of its scene; no pixel belongs to two.

    Args:
      drawing: of a scene.
      min_area: regions of which fewer pixels are seen are left out.
    """
    owners = range(BACKGROUND_OWNER, len(drawing.boxes))
    regions = (TruthMask(owner, drawing.owner == owner) for owner in owners)
    return tuple(region for region in regions if region.mask.sum() >= min_area)


def mask_box(mask: np.ndarray) -> Box:
    """The smallest box around the pixels of a mask, bool [H, W].

    Raises:
      ValueError: an empty mask.
    """
    columns, rows = (np.flatnonzero(mask.any(axis)) for axis in (0, 1))
    if not columns.size:
        raise ValueError("mask: expected at least one pixel, found none.")
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
