"""From a picture to patches in the layout of windows, on the host (Qwen2.5-VL's preprocessing; PIL).

A window covers a square of tokens, smaller at the right and lower edges; a token covers a square of patches, which lie
side by side. Every window takes as many slots as a whole one has, so that attention inside windows is one batched
product of fixed shape.

N pictures · P slots of patches · T tokens
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image

from srum_jax.models.blip3o.config import VisionConfig

MIN_PIXELS = 56 * 56
MAX_PIXELS = 14 * 14 * 4 * 16384  # 12,845,056
MEAN = np.asarray((0.48145466, 0.4578275, 0.40821073), np.float32)
STD = np.asarray((0.26862954, 0.26130258, 0.27577711), np.float32)

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures for the tower, one per row."""

    patches: Array  # float32 [N, P, values], window by window; 0 where there is none
    position: Array  # int32 [N, P, 2], row and column of the patch
    real: Array  # bool [N, P]
    token: Array  # int32 [N, T], place of each token in the layout of windows, row by row; 0 where there is none

    def num_tokens(self, config: VisionConfig) -> Array:
        """Int32 [N]: tokens of each picture."""
        return self.real.sum(axis=1, dtype=np.int32) // config.merge_size**2


def smart_resize(height: int, width: int, factor: int) -> tuple[int, int]:
    """Height and width after the resize: multiples of `factor`, in all between the least and the most pixels.

    Halves are rounded to even, as Python does (Qwen2.5-VL's `smart_resize`).
    """
    tall, wide = (round(side / factor) * factor for side in (height, width))
    if tall * wide > MAX_PIXELS:
        shrink = math.sqrt(height * width / MAX_PIXELS)
        tall, wide = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif tall * wide < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (height * width))
        tall, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return tall, wide


def normalised(pixels: Array) -> Array:
    """What both towers are given: uint8 [..., 3] to float32 [..., 3], by mean and deviation of CLIP's pictures."""
    mean, std = (values.reshape((1,) * (pixels.ndim - 1) + (3,)) for values in (MEAN, STD))
    return (pixels.astype(np.float32) / np.float32(255) - mean) / std


def flat_patches(picture: Image.Image, config: VisionConfig) -> tuple[np.ndarray, tuple[int, int]]:
    """A resized picture as patches, those of a token side by side.

    Args:
      picture: RGB, of any size.
      config: of the tower.

    Returns:
      float32 [patches, values], and the number of rows and columns of patches.
    """
    tall, wide = smart_resize(picture.height, picture.width, config.token_pixels)
    resized = picture.convert("RGB").resize((wide, tall), Image.Resampling.BICUBIC)
    pixels = normalised(np.asarray(resized))
    size, merge = config.patch_size, config.merge_size
    rows, columns = tall // size, wide // size
    parts = pixels.reshape(rows // merge, merge, size, columns // merge, merge, size, 3)
    parts = parts.transpose(0, 3, 1, 4, 6, 2, 5)  # token, patch of the token, channel, pixel
    frames = np.repeat(parts[..., None, :, :], config.temporal_patch_size, axis=5)  # a picture stands still
    return frames.reshape(rows * columns, config.patch_values), (rows, columns)


def patch_positions(grid: tuple[int, int], merge: int) -> np.ndarray:
    """Row and column of each patch in the order of `flat_patches`, int32 [patches, 2]."""
    places = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1).astype(np.int32)
    tiles = places.reshape(grid[0] // merge, merge, grid[1] // merge, merge, 2)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(-1, 2)


def window_layout(grid: tuple[int, int], config: VisionConfig) -> np.ndarray:
    """The token in every slot of every window, counted row by row: int32 [windows, slots]; -1 where there is none."""
    side = config.window_tokens
    rows, columns = (length // config.merge_size for length in grid)
    token = np.full((-(-rows // side) * side, -(-columns // side) * side), -1, np.int32)
    token[:rows, :columns] = np.arange(rows * columns).reshape(rows, columns)
    windows = token.reshape(token.shape[0] // side, side, token.shape[1] // side, side).transpose(0, 2, 1, 3)
    return windows.reshape(-1, side * side)


def arrange(
    pictures: Sequence[tuple[np.ndarray, tuple[int, int]]],
    config: VisionConfig,
    *,
    num_windows: int | None = None,
    num_tokens: int | None = None,
) -> Pictures:
    """Pictures for the tower.

    Args:
      pictures: what `flat_patches` gave for each.
      config: of the tower.
      num_windows: windows of a row; None for as many as the largest picture has.
      num_tokens: T; None likewise.

    Raises:
      ValueError: a picture has more windows or tokens than a row.
    """
    group = config.merge_size**2
    layouts = [window_layout(grid, config) for _, grid in pictures]
    num_windows = num_windows or max(len(layout) for layout in layouts)
    num_tokens = num_tokens or max(len(patches) // group for patches, _ in pictures)
    slots = num_windows * config.window_tokens**2
    found = Pictures(
        patches=np.zeros((len(pictures), slots * group, config.patch_values), np.float32),
        position=np.zeros((len(pictures), slots * group, 2), np.int32),
        real=np.zeros((len(pictures), slots * group), bool),
        token=np.zeros((len(pictures), num_tokens), np.int32),
    )
    for row, ((patches, grid), layout) in enumerate(zip(pictures, layouts, strict=True)):
        if len(layout) > num_windows or len(patches) > num_tokens * group:
            raise ValueError(f"A picture of {grid[0]} x {grid[1]} patches has {len(layout)} windows and "
                             f"{len(patches) // group} tokens: expected at most {num_windows} and {num_tokens}.")
        places = np.flatnonzero(layout.ravel() >= 0)
        tokens = layout.ravel()[places]
        found.token[row, tokens] = places
        for target, values in ((found.patches, patches), (found.position, patch_positions(grid, config.merge_size))):
            grouped = target[row].reshape(slots, group, -1)
            grouped[places] = values.reshape(-1, group, values.shape[-1])[tokens]
        found.real[row].reshape(slots, group)[places] = True
    return found


def middle_square(width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of what the EVA-CLIP tower sees of a picture, in pixels of the picture."""
    side = min(width, height)
    return round((width - side) / 2), round((height - side) / 2), side


def eva_crop(picture: Image.Image, size: int) -> np.ndarray:
    """The middle of a picture whose shorter side was resized to `size`: uint8 [size, size, 3].

    Args:
      picture: RGB, of any size.
      size: pixels along each side.
    """
    shorter = min(picture.size)
    wide, tall = (size if side == shorter else int(size * side / shorter) for side in picture.size)
    resized = picture.convert("RGB").resize((wide, tall), Image.Resampling.BICUBIC)
    left, top = round((wide - size) / 2), round((tall - size) / 2)
    return np.asarray(resized)[top : top + size, left : left + size]
