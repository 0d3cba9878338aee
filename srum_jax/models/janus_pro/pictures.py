"""Pictures as the tower and the picture tokenizer are given them, on the host (PIL)."""

import numpy as np
from PIL import Image

_SMALLEST = 14  # pixels of a side after the resize
_FILL = 127


def view_to_read(image: Image.Image, size: int) -> np.ndarray:
    """An RGB picture resized (bicubic) to fit into a square, and grey where it does not fill it.

    Args:
      image: RGB.
      size: pixels of the square's side.

    Returns:
      uint8 [size, size, 3].
    """
    longer = max(image.size)
    width, height = (max(int(side / longer * size), _SMALLEST) for side in image.size)  # cut off, as in the reference
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    side = max(width, height)
    view = np.full((side, side, 3), _FILL, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    view[top : top + height, left : left + width] = pixels
    return view


def middle_square(width: int, height: int) -> tuple[int, int, int, int]:
    """The part of a picture that is drawn: left, top, right, bottom in its pixels."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def view_to_draw(image: Image.Image, size: int) -> np.ndarray:
    """The middle of an RGB picture, resized (bicubic) to a square: uint8 [size, size, 3]."""
    if image.size == (size, size):
        return np.asarray(image)
    box = middle_square(*image.size)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
