"""What the tiny SAM learns from: drawn scenes, spoilt as a small generator spoils its pictures, and prompts.

A prompt is a point and asks for the region that it lies in: what is seen of an object, or the background.

    B pictures · P prompts of a picture · S pixels of a side
"""

import dataclasses

import numpy as np
from scipy import ndimage

from experiments._tiny_bagel.varied_scenes import free_scene, varied_scene
from experiments._tiny_sam.settings import SampleSettings
from experiments._tiny_sam.truth_masks import TruthMask, mask_box, truth_masks
from srum_jax.worlds.shapes.drawing import BACKGROUND, Drawing, render
from srum_jax.worlds.shapes.questions import PICTURE_SIZE


@dataclasses.dataclass(frozen=True)
class Batch:
    """Inputs of one step."""

    pictures: np.ndarray  # uint8 [B, S, S, 3]
    points: np.ndarray  # float32 [B, P, 2]: x, y in pixels; a pixel's middle has its whole numbers, as in SAM
    boxes: np.ndarray  # float32 [B, P, 4]: first and last pixels of the regions, as in SAM
    masks: np.ndarray  # bool [B, P, S, S]: of the regions


def sample_batch(seed: int, step: int, settings: SampleSettings) -> Batch:
    """The batch of a step; depends on nothing but the arguments."""
    drawn = [_sample(seed, step * settings.pictures + number, settings) for number in range(settings.pictures)]
    return Batch(*(np.stack(parts) for parts in zip(*drawn, strict=True)))


def _sample(seed: int, number: int, settings: SampleSettings) -> tuple[np.ndarray, ...]:
    rng = np.random.Generator(np.random.Philox(key=[seed + (11 << 32), number]))
    if rng.random() < settings.free:
        scene = free_scene(rng)
    else:
        scene = varied_scene(seed, number, overlapping=settings.overlapping)
    drawing = render(scene, PICTURE_SIZE)
    if rng.random() < settings.warped:
        drawing = _warped(drawing, rng)
    picture = drawing.image if rng.random() < settings.crisp else spoilt(drawing.image, rng)
    regions = truth_masks(drawing)
    points, boxes, masks = [], [], []
    for _ in range(settings.prompts):
        region, point = _prompt(regions, rng, settings)
        box = mask_box(region.mask)
        points.append(point)
        boxes.append((box.x0, box.y0, box.x1 - 1, box.y1 - 1))
        masks.append(region.mask)
    return picture, np.array(points, np.float32), np.array(boxes, np.float32), np.stack(masks)


def _prompt(
    regions: tuple[TruthMask, ...], rng: np.random.Generator, settings: SampleSettings
) -> tuple[TruthMask, np.ndarray]:
    """A region and a point (x, y) in it."""
    if rng.random() < settings.anywhere:
        sizes = np.array([region.mask.sum() for region in regions])
        region = regions[rng.choice(len(regions), p=sizes / sizes.sum())]
        inside = region.mask
    else:
        region = regions[rng.integers(min(1, len(regions) - 1), len(regions))]
        inside = region.mask
        if rng.random() < settings.border:
            inside = inside & ~ndimage.binary_erosion(inside)
    rows, columns = np.nonzero(inside)
    chosen = rng.integers(len(rows))
    return region, np.array([columns[chosen], rows[chosen]]) + rng.uniform(-0.45, 0.45, 2)


def _warped(drawing: Drawing, rng: np.random.Generator) -> Drawing:
    """Bends picture and owners alike."""
    size = drawing.owner.shape[0]
    strength = rng.uniform(0.5, 2.5)  # pixels
    shift = [strength * _smooth(rng, int(rng.integers(4, 9)), size) for _ in range(2)]
    place = [np.clip(np.rint(grid + move), 0, size - 1).astype(int)
             for grid, move in zip(np.mgrid[:size, :size], shift, strict=True)]
    return dataclasses.replace(drawing, image=drawing.image[tuple(place)], owner=drawing.owner[tuple(place)])


def spoilt(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture, uint8 [S, S, 3], with blur, noise, tints and pale stains."""
    size = picture.shape[0]
    values = picture.astype(np.float32)
    if rng.random() < 0.6:
        values = values + rng.uniform(2, 14) * np.stack(
            [_smooth(rng, int(rng.integers(3, 13)), size) for _ in range(3)], axis=-1
        )
    if rng.random() < 0.3:  # a stain such as a generator leaves where it cannot decide; part of no region
        row, column, radius = *rng.uniform(0, size, 2), rng.uniform(2, 5)
        y, x = np.mgrid[:size, :size]
        near = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * radius**2))[..., None]
        pale = (np.abs(values - BACKGROUND).max(axis=-1, keepdims=True) < 40).astype(np.float32)
        values = values + 0.35 * rng.random() * near * pale * (rng.uniform(0, 255, 3) - values)
    if rng.random() < 0.6:
        blur = rng.uniform(0.2, 0.65)
        values = ndimage.gaussian_filter(values, (blur, blur, 0), mode="nearest")
    if rng.random() < 0.6:
        values = values + rng.uniform(1, 9) * rng.standard_normal(values.shape).astype(np.float32)
    gain, offset = rng.uniform(0.92, 1.05, 3), rng.uniform(-8, 8, 3)
    return np.clip(np.rint(values * gain + offset), 0, 255).astype(np.uint8)


def _smooth(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """Smooth noise of about unit strength, [S, S], `cells` values along each side."""
    noise = rng.standard_normal((cells, cells)).astype(np.float32)
    return ndimage.zoom(noise, size / cells, order=1, mode="nearest", grid_mode=True)
