"""Draws scenes: crisp RGB images without antialiasing, equal scenes giving equal bytes.

An object is a square of pixels in which a mask decides what is painted. The background is light grey;
textures are drawn in ink, which is nearly black, on the object's own colour.

H = W = S pixels of the image · n pixels of an object's side
"""

import dataclasses
import functools

import numpy as np

from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes.scene import COLORS, Scene, Shape

BACKGROUND = (235, 235, 235)
INK = (25, 25, 25)
PALETTE = dict(
    zip(
        COLORS,
        (
            (215, 40, 40),
            (40, 160, 60),
            (45, 85, 215),
            (240, 210, 40),
            (145, 55, 180),
            (245, 135, 25),
            (40, 200, 215),
            (245, 140, 190),
        ),
        strict=True,
    )
)
MIN_IMAGE_SIZE = 32  # pixels; below, shapes are no longer told apart
_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A drawn scene."""

    image: np.ndarray  # uint8 [S, S, 3]
    boxes: tuple[Box, ...]  # of each shape, half-open pixels; what is covered by others is included
    owner: np.ndarray  # int16 [S, S]: the shape that is seen at each pixel, -1 for the background


def render(scene: Scene, size: int) -> Drawing:
    """Draws a scene at `size` x `size` pixels.

    Raises:
      ValueError: an image that is too small, or a shape that does not lie inside it.
    """
    if size < MIN_IMAGE_SIZE:
        raise ValueError(f"size: expected at least {MIN_IMAGE_SIZE} pixels, found {size}.")
    image = np.empty((size, size, 3), np.uint8)
    image[:] = BACKGROUND
    owner = np.full((size, size), -1, np.int16)
    boxes = tuple(pixel_box(shape, size) for shape in scene.shapes)
    for number, (shape, box) in enumerate(zip(scene.shapes, boxes, strict=True)):
        if not box.inside(size, size):
            raise ValueError(
                f"shape {number}: expected a box inside {size} x {size} pixels, found {tuple(box)}."
            )
        place = np.s_[box.y0 : box.y1, box.x0 : box.x1]
        mask = shape_mask(shape.shape, box.width)
        image[place][mask] = PALETTE[shape.color]
        image[place][mask & ink_mask(shape.texture, box.width)] = INK
        owner[place][mask] = number
    return Drawing(image, boxes, owner)


def pixel_box(shape: Shape, size: int) -> Box:
    """The bounding box in an image of `size` pixels; always a square."""
    side = max(round(shape.side * size), 1)
    x0, y0 = (round(center * size - side / 2) for center in (shape.center_x, shape.center_y))
    return Box(x0, y0, x0 + side, y0 + side)


@functools.lru_cache(maxsize=4096)
def shape_mask(shape: str, side: int) -> np.ndarray:
    """Bool [n, n]: the pixels of a shape. They touch all four sides of the square."""
    y, x = np.mgrid[:side, :side]
    x, y = np.abs((x + 0.5) / side - 0.5), (y + 0.5) / side  # x: distance from the vertical middle
    radius_square = x**2 + (y - 0.5) ** 2
    if shape == "circle":
        mask = radius_square <= 0.25
    elif shape == "square":
        mask = np.ones((side, side), bool)
    elif shape == "triangle":
        mask = x <= (y + 0.5 / side) / 2 + _TOLERANCE
    elif shape == "diamond":
        mask = x + np.abs(y - 0.5) <= 0.5 + _TOLERANCE
    elif shape == "cross":
        mask = np.minimum(x, np.abs(y - 0.5)) <= 1 / 6 + _TOLERANCE
    elif shape == "ring":
        mask = (radius_square <= 0.25) & (radius_square >= 0.075)
    else:
        raise ValueError(f"unknown shape {shape!r}")
    mask.setflags(write=False)
    return mask


@functools.lru_cache(maxsize=4096)
def ink_mask(texture: str, side: int) -> np.ndarray:
    """Bool [n, n]: where a texture has ink."""
    width = max(1, round(side / 7))
    row, column = np.mgrid[:side, :side] // width
    if texture == "solid":
        mask = np.zeros((side, side), bool)
    elif texture == "striped":
        mask = row % 2 == 1
    elif texture == "dotted":
        mask = (row % 2 == 1) & (column % 2 == 1)
    elif texture == "checkered":
        mask = (row + column) % 2 == 1
    else:
        raise ValueError(f"unknown texture {texture!r}")
    mask.setflags(write=False)
    return mask
