"""Pictures for the page: visitors' files decoded, small pictures enlarged, regions and maps drawn over them."""

import functools
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import decode_image, read_header, to_rgb
from srum_jax.errors import BadInput
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.token_grid import Grid

MAX_PIXELS = 32_000_000  # of a visitor's picture; known from its header, before anything is decoded
_SHOWN = 512  # pixels of the longer side that smaller pictures are enlarged to, without smoothing
# Told apart by colour-blind eyes too; the same as in the report of a run.
_GREY, _PLUS, _MINUS = (np.array(colour, np.float64) for colour in ((138, 138, 134), (26, 98, 178), (204, 78, 20)))
_READABLE = 40  # pixels of a cell that has room for its number


def read_upload(path: str | os.PathLike, max_bytes: float) -> np.ndarray:
    """A visitor's picture, uint8 [H, W, 3], upright; what is transparent is put on white.

    Raises:
      BadInput: too large, or no picture of a known kind; nothing is decoded before its size is known.
    """
    size = os.path.getsize(path)
    if size > max_bytes:
        raise BadInput(f"picture: expected a file of at most {max_bytes / 1e6:g} MB, found {size / 1e6:.1f} MB.")
    with open(path, "rb") as file:
        encoded = file.read()
    try:
        header = read_header(encoded)
        if header.width * header.height > MAX_PIXELS:
            raise BadInput(f"picture: expected at most {MAX_PIXELS // 10**6} million pixels, found {header.width} x "
                           f"{header.height}.")
        return np.asarray(to_rgb(decode_image(encoded)))
    except ImageError as error:
        raise BadInput(f"picture: {str(error).rstrip('.')}.") from error


def shown(pixels: np.ndarray) -> np.ndarray:
    """A picture uint8 [H, W, 3], each pixel of a small one as a square of several."""
    factor = max(1, _SHOWN // max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def with_boxes(pixels: np.ndarray, boxes: Sequence[Box], scores: Sequence[float | None]) -> np.ndarray:
    """Numbered regions over a picture as `shown`; coloured by their scores in [-1, 1], grey without one."""
    large = Image.fromarray(shown(pixels))
    scale = large.width / pixels.shape[1]
    draw, unit = ImageDraw.Draw(large), max(large.size) / 160
    font = _font(round(7 * unit))
    order = sorted(range(len(boxes)), key=lambda number: -boxes[number].area)  # small ones last, on top
    for number in order:
        colour = tuple(_mix(np.float64(scores[number] or 0.0)).astype(int).tolist())
        corners = [corner * scale for corner in boxes[number]]
        corners[2:] = [corner - 1 for corner in corners[2:]]
        draw.rectangle(corners, outline=(255, 255, 255), width=round(3 * unit))
        draw.rectangle(corners, outline=colour, width=round(2 * unit))
    for number in order:
        colour = tuple(_mix(np.float64(scores[number] or 0.0)).astype(int).tolist())
        text, (x, y) = str(number + 1), (boxes[number].x0 * scale, boxes[number].y0 * scale)
        wide, high = (4 + 4 * len(text)) * unit, 9 * unit
        x, y = min(x, large.width - wide), min(y, large.height - high)
        draw.rounded_rectangle((x, y, x + wide, y + high), radius=2 * unit, fill=colour)
        draw.text((x + wide / 2, y + high / 2), text, fill=(255, 255, 255), font=font, anchor="mm")
    return np.asarray(large)


def with_map(pixels: np.ndarray, values: np.ndarray, grid: Grid, ends: tuple[float, float, float]) -> np.ndarray:
    """One value per image token over a picture as `shown`, with its number where there is room.

    Args:
      pixels: uint8 [H, W, 3].
      values: float32 [h, w].
      grid: where the tokens lie.
      ends: the least value, the one that is grey, and the most.
    """
    large = Image.fromarray(shown(pixels)).convert("RGBA")
    scale = large.width / pixels.shape[1]
    low, neutral, high = ends
    deviation = np.clip(np.where(values < neutral, (values - neutral) / (neutral - low),
                                 (values - neutral) / (high - neutral)), -1, 1).astype(np.float64)
    opacity = 255 * (0.28 + 0.5 * np.abs(deviation))
    cells = np.concatenate([_mix(deviation), opacity[..., None]], -1).astype(np.uint8)
    left, top, right, bottom = (round(corner * scale) for corner in grid.window)
    over = Image.fromarray(cells).resize((right - left, bottom - top), Image.Resampling.NEAREST)
    large.alpha_composite(over, (left, top))
    wide, tall = (right - left) / grid.columns, (bottom - top) / grid.rows
    if min(wide, tall) >= _READABLE:
        draw, font = ImageDraw.Draw(large), _font(round(min(wide / 2.6, tall / 2)))
        for row in range(grid.rows):
            for column in range(grid.columns):
                place = (left + (column + 0.5) * wide, top + (row + 0.5) * tall)
                draw.text(place, _short(values[row, column]), fill="white", stroke_width=2, stroke_fill=(40, 40, 40),
                          font=font, anchor="mm")
    return np.asarray(large.convert("RGB"))


def film(pictures: Sequence[np.ndarray], labels: Sequence[str], columns: int = 4) -> np.ndarray:
    """Pictures of one size side by side, each under its label, from left to right and top to bottom."""
    tiles = [Image.fromarray(shown(pixels)).resize((240, round(240 * pixels.shape[0] / pixels.shape[1])),
                                                   Image.Resampling.BOX) for pixels in pictures]
    columns = min(columns, len(tiles))
    wide, tall, gap, band = tiles[0].width, tiles[0].height, 8, 26
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (wide + gap) - gap, rows * (tall + band + gap) - gap), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        x, y = number % columns * (wide + gap), number // columns * (tall + band + gap)
        sheet.paste(tile, (x, y + band))
        draw.text((x + wide / 2, y + band / 2), label, fill=(60, 60, 60), font=_font(18), anchor="mm")
    return np.asarray(sheet)


def css_colour(score: float | None) -> str:
    """The colour of a score in [-1, 1], as style sheets write it."""
    return "rgb({:.0f}, {:.0f}, {:.0f})".format(*_mix(np.float64(score or 0.0)))


def _mix(value: np.ndarray) -> np.ndarray:
    """Colours [..., 3] of values in [-1, 1]."""
    part = np.minimum(1.0, np.abs(value))[..., None] ** 0.6
    return _GREY + part * (np.where(value[..., None] < 0, _MINUS, _PLUS) - _GREY)


def _short(value: float) -> str:
    """At most two decimals: 1, 0.5, -0.38."""
    return f"{value:.2f}".rstrip("0").rstrip(".").replace("-0", "0" if round(value, 2) == 0 else "-0")


@functools.cache
def _font(size: int) -> ImageFont.ImageFont:
    return ImageFont.load_default(max(size, 8))
