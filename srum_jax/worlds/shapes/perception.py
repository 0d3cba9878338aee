"""Sees objects in pixels: palette, connected components, template matching. No model, nothing learned.

Exact for images that `drawing` made; for others the nearest reading, together with how well formed the
image is. A pixel belongs to the nearest colour of the palette; pixels of one colour (and ink) that touch
are an object; its shape is the template that overlaps it best, where pixels hidden by other objects count
neither way.
"""

import dataclasses

import numpy as np
import scipy  # its rooms are opened when they are entered

from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes.drawing import BACKGROUND, INK, PALETTE, ink_mask, shape_mask
from srum_jax.worlds.shapes.scene import COLORS, SHAPES, TEXTURES
from srum_jax.worlds.shapes.sight import MIN_COVERED_PIXELS, SeenObject, Sight

MIN_MATCH = 0.75  # below, a shape is not recognised
_CLEAR_DISTANCE = 40.0  # from the nearest colour of the palette, in RGB steps; farther pixels are smeared
_MIN_AREA = 0.012  # of the image; smaller specks are not objects
_SPECK_REACH = 0.15  # of the image's width, between a speck and the object from which another one cuts it off
_LARGEST_GROWTH = 1.8  # of a partly hidden object over what is seen of it
_BACKGROUND, _INK = len(COLORS), len(COLORS) + 1
_LEVELS = np.array([*PALETTE.values(), BACKGROUND, INK], np.float32)
_NEIGHBOURS = np.ones((3, 3), bool)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """A template at a place."""

    shape: str
    box: Box
    match: float  # intersection over union, hidden pixels left out
    hidden: int  # pixels


def look(image: np.ndarray) -> Sight:
    """What is seen in an image.

    Args:
      image: uint8 [H, W, 3].

    Raises:
      ValueError: another shape or dtype.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image: expected uint8 [height, width, 3], found {image.dtype} {list(image.shape)}."
        )
    squares = np.stack([np.sum((image - level) ** 2, axis=-1) for level in _LEVELS])
    labels = np.argmin(squares, axis=0)
    foreground = labels != _BACKGROUND
    components, stray = _components(labels, foreground)
    fits = [_best_fit(mask, foreground) for mask, _ in components]
    objects = [
        SeenObject(
            fit.shape if fit.match >= MIN_MATCH else None,
            color,
            _texture(mask, labels, fit),
            fit.box,
            fit.match,
        )
        for (mask, color), fit in zip(components, fits, strict=True)
    ]
    covers = {
        (front, back)
        for back, fit in enumerate(fits)
        for front, (mask, _) in enumerate(components)
        if front != back and np.sum(_in_image(fit, foreground.shape) & mask) >= MIN_COVERED_PIXELS
    }
    covers -= {(front, back) for front, back in covers if (back, front) in covers}
    clear = np.mean(squares.min(axis=0) <= _CLEAR_DISTANCE**2)
    tidy = 1.0 - stray / max(np.sum(foreground), 1)
    well_formed = min((fit.match for fit in fits), default=0.0) * clear * tidy
    return Sight.sorted(objects, covers, float(well_formed))


def _components(labels: np.ndarray, foreground: np.ndarray) -> tuple[list[tuple[np.ndarray, str]], int]:
    """Masks and colours of objects, and the number of foreground pixels in none of them."""
    found, used = [], np.zeros_like(foreground)
    for number, color in enumerate(COLORS):
        colored = labels == number
        if not np.any(colored):
            continue
        islands, _ = scipy.ndimage.label(colored | (labels == _INK), _NEIGHBOURS)
        masks = [islands == island for island in np.unique(islands[colored])]
        large = [mask for mask in masks if np.sum(mask) >= _MIN_AREA * labels.size]
        specks = [mask for mask in masks if np.sum(mask) < _MIN_AREA * labels.size]
        reach = (
            [
                scipy.ndimage.binary_dilation(mask, _NEIGHBOURS, max(1, round(_SPECK_REACH * labels.shape[1])))
                for mask in large
            ]
            if specks
            else []
        )
        for speck in specks:
            for mask, near in zip(large, reach, strict=True):
                if np.any(near & speck):
                    mask |= speck
                    break
        for mask in large:
            found.append((mask, color))
            used |= mask
    return found, int(np.sum(foreground & ~used))


def _best_fit(mask: np.ndarray, foreground: np.ndarray) -> _Fit:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    seen = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    side = max(seen.width, seen.height)
    fits = _fits(mask, foreground, seen, side)
    others = foreground & ~mask
    touches_another = np.any(scipy.ndimage.binary_dilation(mask, _NEIGHBOURS) & others)
    if touches_another and max(fit.match for fit in fits) < 1.0:
        for larger in range(side + 1, int(side * _LARGEST_GROWTH) + 1):
            fits += _fits(mask, foreground, seen, larger)
    return max(fits, key=lambda fit: (fit.match, -fit.hidden, -fit.box.width))


def _fits(mask: np.ndarray, foreground: np.ndarray, seen: Box, side: int) -> list[_Fit]:
    """All shapes at the places where a square of this side shares a corner with what is seen."""
    fits = []
    for x0 in sorted({seen.x0, seen.x1 - side}):
        for y0 in sorted({seen.y0, seen.y1 - side}):
            box = Box(x0, y0, x0 + side, y0 + side)
            clipped = box.clip(mask.shape[1], mask.shape[0])
            place = np.s_[clipped.y0 : clipped.y1, clipped.x0 : clipped.x1]
            visible, others = mask[place], (foreground & ~mask)[place]
            outside = np.sum(mask) - np.sum(visible)
            for shape in SHAPES:
                template = shape_mask(shape, side)[
                    clipped.y0 - y0 : clipped.y1 - y0, clipped.x0 - x0 : clipped.x1 - x0
                ]
                hidden = int(np.sum(template & others))
                union = np.sum(template | visible) - hidden + outside
                fits.append(_Fit(shape, clipped, float(np.sum(template & visible) / union), hidden))
    return fits


def _in_image(fit: _Fit, shape: tuple[int, ...]) -> np.ndarray:
    """Bool [H, W]: the template at its place."""
    template = np.zeros(shape, bool)
    box = fit.box
    side = max(box.width, box.height)
    template[box.y0 : box.y1, box.x0 : box.x1] = shape_mask(fit.shape, side)[: box.height, : box.width]
    return template


def _texture(mask: np.ndarray, labels: np.ndarray, fit: _Fit) -> str | None:
    """The texture whose ink agrees best with the pixels of the object; None if none agrees with most."""
    box = fit.box
    place = np.s_[box.y0 : box.y1, box.x0 : box.x1]
    visible, ink = mask[place], labels[place] == _INK
    if not np.any(visible):
        return None
    agreement = [
        np.mean(
            ink_mask(texture, max(box.width, box.height))[: box.height, : box.width][visible] == ink[visible]
        )
        for texture in TEXTURES
    ]
    return TEXTURES[int(np.argmax(agreement))] if max(agreement) >= MIN_MATCH else None
