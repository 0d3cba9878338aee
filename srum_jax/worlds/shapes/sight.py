"""What is seen in an image: objects with attributes and boxes, and which covers which."""

import dataclasses

import numpy as np

from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes.drawing import render, shape_mask
from srum_jax.worlds.shapes.scene import Scene

MIN_COVERED_PIXELS = 2  # of one object under another
WELL_FORMED = 0.8  # of `Sight.well_formed`: from here on a picture counts as crisp


@dataclasses.dataclass(frozen=True)
class SeenObject:
    """One object of an image. None: not recognisable."""

    shape: str | None
    color: str
    texture: str | None
    box: Box  # half-open pixels; what is covered by others is included
    match: float = 1.0  # share of its pixels that agree with the shape, in [0, 1]

    @property
    def center(self) -> tuple[float, float]:
        """x and y in pixels."""
        return (self.box.x0 + self.box.x1) / 2, (self.box.y0 + self.box.y1) / 2

    @property
    def side(self) -> int:
        """Pixels."""
        return max(self.box.width, self.box.height)


@dataclasses.dataclass(frozen=True)
class Sight:
    """All objects of an image, from top to bottom, and from left to right where tops are equal."""

    objects: tuple[SeenObject, ...]
    covers: frozenset[tuple[int, int]] = frozenset()  # (front, back), indices of objects
    well_formed: float = 1.0  # how crisp the picture is, whatever it shows, in [0, 1]; 0 if it is empty

    @classmethod
    def sorted(
        cls, objects: list[SeenObject], covers: set[tuple[int, int]], well_formed: float = 1.0
    ) -> "Sight":
        """Puts objects into their order; `covers` holds indices of the given one."""
        order = sorted(
            range(len(objects)), key=lambda n: (objects[n].box.y0, objects[n].box.x0, objects[n].color)
        )
        place = {number: rank for rank, number in enumerate(order)}
        return cls(
            tuple(objects[number] for number in order),
            frozenset((place[front], place[back]) for front, back in covers),
            well_formed,
        )


def sight_of_scene(scene: Scene, size: int) -> Sight:
    """What is seen in a scene drawn at `size` pixels, taken from the procedure that draws it."""
    drawing = render(scene, size)
    objects = [
        SeenObject(shape.shape, shape.color, shape.texture, box)
        for shape, box in zip(scene.shapes, drawing.boxes, strict=True)
    ]
    covers = set()
    for back, (shape, box) in enumerate(zip(scene.shapes, drawing.boxes, strict=True)):
        mask = shape_mask(shape.shape, box.width)
        owners = drawing.owner[box.y0 : box.y1, box.x0 : box.x1][mask]
        for front in np.unique(owners[owners > back]):
            if np.sum(owners == front) >= MIN_COVERED_PIXELS:
                covers.add((int(front), back))
    return Sight.sorted(objects, covers)
