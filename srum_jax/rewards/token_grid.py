"""Where the image tokens of a picture lie on it."""

import dataclasses

from srum_jax.rewards.boxes import Box


@dataclasses.dataclass(frozen=True)
class Grid:
    """The tokens of one picture: cells of equal size that cover a part of it."""

    rows: int
    columns: int
    window: Box  # that part, in pixels of the stored picture; all of it unless the picture was cropped
    width: int  # pixels to which the part was resized for the model
    height: int
