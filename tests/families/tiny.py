"""A tiny base of every family, for the contract that all of them keep. A new family adds itself here."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.worlds.shapes.base import trained_base, trained_janus
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from tests.families.blip3o import tiny_checkpoint


@dataclasses.dataclass(frozen=True)
class TinyBase:
    """A model that trains, draws and answers in seconds.

    Attributes:
      family: its name.
      checkpoint: a published directory, trained or with random numbers (nothing that starts at zero).
      rows: in which two samples of either kind find room.
      prompts: two that it may draw for.
      picture: uint8 [H, W, 3] of the size that it draws.
      question: that it may be asked of the picture.
    """

    family: str
    checkpoint: Callable[[], epath.Path]
    rows: Any
    prompts: tuple[str, str]
    picture: np.ndarray
    question: str


def _stripes(side: int) -> np.ndarray:
    """A picture that is the same under no shift or turn."""
    rows, columns = np.mgrid[:side, :side]
    return np.stack([rows * 255 // side, columns * 255 // side, (rows + 2 * columns) % 256], -1).astype(np.uint8)


TINY_BASES = (
    TinyBase(
        family="bagel",
        checkpoint=trained_base,
        rows=BagelRows(samples_per_row=2, text_capacity=64, vit_capacity=128, latent_capacity=128, ce_capacity=16,
                       images_per_row=2, image_height=48, image_width=48, max_size=48, min_size=48, stride=8),
        prompts=("a red circle left of a blue square", "two green triangles"),
        picture=_stripes(PICTURE_SIZE),
        question="what is in the picture",
    ),
    TinyBase(
        family="blip3o",
        checkpoint=lambda: epath.Path(tiny_checkpoint.shared()),
        rows=Blip3oRows(samples_per_row=2, text_capacity=64, readings_per_row=2, reading_capacity=48,
                        reading_windows=1, answer_capacity=16),
        prompts=("a red circle left of a blue square", "two green triangles"),
        picture=_stripes(tiny_checkpoint.PICTURE_SIDE),
        question="what is in the picture",
    ),
    TinyBase(
        family="janus_pro",
        checkpoint=trained_janus,
        rows=JanusRows(samples_per_row=2, text_capacity=32, readings_per_row=2, reading_capacity=96,
                       answer_capacity=16),
        prompts=("a red circle left of a blue square", "two green triangles"),
        picture=_stripes(PICTURE_SIZE),
        question="what is in the picture",
    ),
)
