"""Pictures of several models side by side: a column per prompt, a row per model, framed by the oracle."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath
from PIL import Image, ImageDraw

from srum_jax.storage.atomic_file import atomic_write
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.scene import Prompt

_SIDE, _MARGIN, _LINE, _LEFT = 96, 8, 12, 90  # pixels
_CHARACTER = 6  # pixels, of the built-in font
_FITS, _FAILS = (40, 150, 70), (200, 60, 50)


def write_grid(
    path: epath.PathLike, prompts: Sequence[Prompt], pictures: Mapping[str, Sequence[np.ndarray]]
) -> None:
    """Writes a PNG. Green frames: the picture shows what was asked for; red ones: it does not.

    Args:
      path: of the file.
      prompts: of the columns.
      pictures: for each model uint8 [H, W, 3], in the order of the prompts.
    """
    texts = [textwrap.wrap(prompt_text(prompt), (_SIDE + _MARGIN) // _CHARACTER) for prompt in prompts]
    top, step = _MARGIN + _LINE * max(map(len, texts)), _SIDE + _MARGIN
    sheet = Image.new("RGB", (_LEFT + len(prompts) * step, top + len(pictures) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(texts):
        for number, line in enumerate(lines):
            draw.text((_LEFT + column * step, _MARGIN // 2 + number * _LINE), line, fill=(40, 40, 40))
    for row, (name, images) in enumerate(pictures.items()):
        draw.text((_MARGIN, top + row * step + _SIDE // 2), name, fill=(40, 40, 40))
        for column, (prompt, image) in enumerate(zip(prompts, images, strict=True)):
            left, upper = _LEFT + column * step, top + row * step
            sheet.paste(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (left, upper))
            color = _FITS if judge_image(prompt, image).correct else _FAILS
            draw.rectangle((left - 2, upper - 2, left + _SIDE + 1, upper + _SIDE + 1), outline=color, width=2)
    with atomic_write(path) as file:
        sheet.save(file, format="PNG", optimize=True)


def write_strip(path: epath.PathLike, pictures: Sequence[np.ndarray]) -> None:
    """Keeps pictures of one size next to each other in a PNG, without loss.

    Args:
      path: of the file.
      pictures: uint8 [H, W, 3] each.
    """
    with atomic_write(path) as file:
        Image.fromarray(np.concatenate(pictures, axis=1)).save(file, format="PNG", optimize=True)


def read_strip(path: epath.Path, count: int) -> list[np.ndarray]:
    """The pictures of `write_strip`, of which there are `count`."""
    with path.open("rb") as file, Image.open(file) as strip:
        return np.split(np.asarray(strip.convert("RGB")), count, axis=1)
