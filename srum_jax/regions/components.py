"""Regions of even colour: for drawn worlds and for trying things out, not for photographs."""

import dataclasses

import numpy as np
import scipy  # its rooms are opened when they are entered

from srum_jax.errors import BadInput
from srum_jax.rewards.mask_rle import encode_mask
from srum_jax.rewards.proposals import RawProposal


@dataclasses.dataclass(frozen=True)
class ComponentsConfig:
    """What counts as a region."""

    tolerance: int = 48  # levels of 255 by which a pixel may differ from the background in any channel
    min_area: int = 4  # pixels

    def __post_init__(self):
        for name, low, high in (("tolerance", 0, 255), ("min_area", 1, 2**31)):
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"components.{name}: expected a number from {low} to {high}, found "
                               f"{getattr(self, name)!r}.")


class Components:
    """Proposes what is connected and differs from the image's background, the commonest colour of its border."""

    def __init__(self, config: ComponentsConfig, keep_masks: bool = False):
        """Remembers what counts as a region, and whether proposals carry their masks, run-length encoded."""
        self.config, self.keep_masks = config, keep_masks

    def propose(self, pixels: np.ndarray) -> list[RawProposal]:
        """Regions of an image uint8 [H, W, 3]."""
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        colours, counts = np.unique(border // 16, axis=0, return_counts=True)
        common = np.all(border // 16 == colours[counts.argmax()], axis=1)
        background = np.median(border[common], axis=0)
        labels, _ = scipy.ndimage.label(np.abs(pixels - background).max(axis=-1) > self.config.tolerance)
        areas, found = np.bincount(labels.ravel())[1:], scipy.ndimage.find_objects(labels)
        return [
            RawProposal((columns.start, rows.start, columns.stop, rows.stop), int(area),
                        rle=encode_mask(labels == label) if self.keep_masks else None)
            for label, ((rows, columns), area) in enumerate(zip(found, areas, strict=True), 1)
            if area >= self.config.min_area
        ]
