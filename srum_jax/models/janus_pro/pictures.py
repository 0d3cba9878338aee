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
    # Also where the size stays: the reference's filter acts then too, and changes nothing.
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    side = max(width, height)
    view = np.full((side, side, 3), _FILL, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    view[top : top + height, left : left + width] = pixels
    return view


def view_to_draw(image: Image.Image, size: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """An RGB picture resized (bicubic) by its shorter side to a square, of which the middle is kept.

    Args:
      image: RGB.
      size: pixels of the square's side.

    Returns:
      uint8 [size, size, 3], and the part of the picture that it shows: left, top, right, bottom in its pixels.
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    window = (left, top, left + side, top + side)
    if image.size == (size, size):
        return np.asarray(image), window
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=window)), window
