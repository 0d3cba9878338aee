"""Boxes: half-open, integer pixels of the stored image, origin at the top left.

    x0 <= x < x1,   y0 <= y < y1
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

GLOBAL_OBJECT = "global_layout_reward"  # the entry of the authors' files that carries the global score


class Box(NamedTuple):
    """A half-open rectangle in pixels."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels; not positive for an empty box."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels; not positive for an empty box."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Pixels inside; 0 for an empty box."""
        return max(self.width, 0) * max(self.height, 0)

    @property
    def empty(self) -> bool:
        """True when no pixel lies inside."""
        return self.width <= 0 or self.height <= 0

    def clip(self, width: int, height: int) -> "Box":
        """The part inside an image of `width` x `height` pixels; may be empty."""
        return Box(min(max(self.x0, 0), width), min(max(self.y0, 0), height),
                   min(max(self.x1, 0), width), min(max(self.y1, 0), height))

    def scaled(self, size: tuple[int, int], other: tuple[int, int]) -> "Box":
        """The same part of a picture that was resized, from one width and height to another; rounded."""
        return Box(*(round(corner * other[axis % 2] / size[axis % 2]) for axis, corner in enumerate(self)))

    def iou(self, other: "Box") -> float:
        """Area of both over area of either; 0 where both are empty."""
        both = Box(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1)).area
        return both / max(self.area + other.area - both, 1)

    def inside(self, width: int, height: int) -> bool:
        """True when the box is not empty and no part lies outside the image."""
        return 0 <= self.x0 < self.x1 <= width and 0 <= self.y0 < self.y1 <= height


def parse_coordinates(value: Any) -> tuple[int, int, int, int] | None:
    """Four coordinates as the authors' loader reads them, or None where it skips the region.

    Floats are cut towards zero, strings of digits are accepted; everything else makes the region unusable: another
    length, null, text, NaN or infinity.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != 4:
        return None
    corners = []
    for entry in value:
        if isinstance(entry, float) and not math.isfinite(entry):
            return None
        if not isinstance(entry, int | float | str):
            return None
        try:
            corners.append(int(entry))
        except ValueError:
            return None
    return tuple(corners)


def official_boxes(regions: Sequence[Mapping[str, Any]]) -> list[tuple[Box, float]]:
    """Boxes and scores of raw regions, used exactly as the authors' loader uses them (`spec` of their training file).

    The ends are taken as exclusive, nothing is clamped but the box, scores may lie outside [-1, 1].

    Args:
      regions: entries with `object`, `bbox` and `score`; the global entry is left out, a missing score is 0.

    Raises:
      TypeError: there is no list, a region is no object, or a score is null or text; the authors' loader drops such a
        record.
    """
    if not isinstance(regions, Sequence):
        raise TypeError(f"regions: expected a list, found {regions!r}")
    usable = []
    for number, region in enumerate(regions):
        if not isinstance(region, Mapping):
            raise TypeError(f"region {number}: expected an object, found {region!r}")
        if region.get("object") == GLOBAL_OBJECT:
            continue
        corners = parse_coordinates(region.get("bbox"))
        if corners is None or corners[0] >= corners[2] or corners[1] >= corners[3]:
            continue
        score = region.get("score", 0.0)
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise TypeError(f"region {number}: field 'score': expected a number, found {score!r}")
        usable.append((Box(*corners), float(score)))
    return usable
