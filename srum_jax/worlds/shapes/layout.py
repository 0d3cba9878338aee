"""Puts objects into a scene so that a relation holds."""

import dataclasses

import numpy as np
from scipy import ndimage

from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.scene import (
    COLORS,
    DEPTH_RELATIONS,
    SIZE_RELATIONS,
    Prompt,
    Relation,
    Scene,
    Shape,
)

_MARGIN = 0.03  # between an object and the edge of its cell
_SIDES = {2: (0.26, 0.38), 3: (0.22, 0.26)}  # of an object, by cells along each side of the image
_CHECK_SIZE = 128  # pixels at which the overlap of two objects is checked
_NECK = np.ones(
    (9, 9), bool
)  # at that size; where a covered object is thinner, smaller images could split it


@dataclasses.dataclass(frozen=True)
class DraftObject:
    """An object without its place."""

    phrase: int  # index of the phrase that it is drawn for
    shape: str
    color: str
    texture: str


@dataclasses.dataclass(frozen=True)
class Draft:
    """Everything about a scene but its places."""

    objects: tuple[DraftObject, ...]
    relation: Relation | None


def draft_of(prompt: Prompt, rng: np.random.Generator) -> Draft:
    """A draft that fits the prompt. Colours that it leaves open are random, textures solid."""
    objects = []
    for number, phrase in enumerate(prompt.phrases):
        for _ in range(phrase.count):
            color = phrase.color or COLORS[rng.integers(len(COLORS))]
            objects.append(DraftObject(number, phrase.shape, color, phrase.texture or "solid"))
    return Draft(tuple(objects), prompt.relation)


def lay_out(draft: Draft, rng: np.random.Generator) -> Scene:
    """Chooses sizes and places. A relation one of whose objects is absent is left out.

    Raises:
      ValueError: more objects than places.
    """
    pair = _related(draft)
    if pair is not None and draft.relation.kind in DEPTH_RELATIONS:
        return _overlapping(draft, pair, rng)
    others = [number for number in range(len(draft.objects)) if pair is None or number not in pair]
    if len(draft.objects) > 9:
        raise ValueError(f"a scene has at most 9 objects, found {len(draft.objects)}.")
    cells = 2 if len(draft.objects) <= 4 and (pair is None or len(others) <= 2) else 3
    sides = rng.uniform(*_SIDES[cells], len(draft.objects))
    places: dict[int, tuple[int, int]] = {}
    if pair is not None and draft.relation.kind in SIZE_RELATIONS:
        sides[list(pair)] = _compared_sides(draft.relation.kind, rng)
    elif pair is not None:
        places = _spatial_cells(draft.relation.kind, pair, cells, rng)
    free = [
        (row, column)
        for row in range(cells)
        for column in range(cells)
        if (row, column) not in places.values()
    ]
    order = rng.permutation(len(free))
    for number, choice in zip((n for n in range(len(draft.objects)) if n not in places), order, strict=False):
        places[number] = free[choice]

    shapes = []
    for number, entry in enumerate(draft.objects):
        slack = (1 / cells - sides[number]) / 2 - _MARGIN
        row, column = places[number]
        x, y = ((cell + 0.5) / cells + rng.uniform(-slack, slack) for cell in (column, row))
        shapes.append(
            Shape(entry.shape, entry.color, entry.texture, float(x), float(y), float(sides[number]))
        )
    return Scene(tuple(shapes))


def _related(draft: Draft) -> tuple[int, int] | None:
    """The objects that the relation is about."""
    if draft.relation is None:
        return None
    phrases = [entry.phrase for entry in draft.objects]
    wanted = (draft.relation.subject, draft.relation.object)
    return tuple(phrases.index(number) for number in wanted) if set(wanted) <= set(phrases) else None


def _compared_sides(kind: str, rng: np.random.Generator) -> tuple[float, float]:
    if kind == "the same size as":
        return (rng.uniform(0.28, 0.36),) * 2
    small, large = rng.uniform(0.22, 0.26), rng.uniform(0.36, 0.4)
    return (large, small) if kind == "larger than" else (small, large)


def _spatial_cells(
    kind: str, pair: tuple[int, int], cells: int, rng: np.random.Generator
) -> dict[int, tuple[int, int]]:
    low, high = sorted(rng.choice(cells, 2, replace=False).tolist())
    across = int(rng.integers(cells))
    first, second = (low, high) if kind in ("left of", "above") else (high, low)
    if kind in ("left of", "right of"):
        return {pair[0]: (across, first), pair[1]: (across, second)}
    return {pair[0]: (first, across), pair[1]: (second, across)}


def _overlapping(draft: Draft, pair: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Two objects, one of which covers a part of the other; both stay recognisable."""
    front, back = pair if draft.relation.kind == "in front of" else reversed(pair)
    while True:
        back_side, front_side = rng.uniform(0.38, 0.46), rng.uniform(0.3, 0.36)
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.65) * (back_side + front_side) / 2
        shift = distance * np.cos(angle), distance * np.sin(angle)
        center = rng.uniform(0.44, 0.56, 2)
        shapes = tuple(
            Shape(
                entry.shape,
                entry.color,
                entry.texture,
                *(float(center[axis] + sign * shift[axis]) for axis in (0, 1)),
                float(side),
            )
            for entry, side, sign in (
                (draft.objects[back], back_side, -0.5),
                (draft.objects[front], front_side, 0.5),
            )
        )
        scene = Scene(shapes)
        if _partly_covered(scene):
            return scene


def _partly_covered(scene: Scene) -> bool:
    drawing = render(scene, _CHECK_SIZE)
    alone = render(Scene(scene.shapes[:1]), _CHECK_SIZE).owner == 0
    covered = np.mean(drawing.owner[alone] == 1)
    visible = drawing.owner == 0
    box = drawing.boxes[0]
    # One of the two ends in either direction must be seen, or the place of the covered object cannot be told.
    columns, rows = (np.flatnonzero(visible.any(axis)) for axis in (0, 1))
    seen = [
        inner[0] == start or inner[-1] == end - 1
        for inner, start, end in ((columns, box.x0, box.x1), (rows, box.y0, box.y1))
    ]
    eroded = ndimage.binary_erosion(visible, _NECK)
    in_one_piece = all(ndimage.label(mask)[1] == 1 for mask in (visible, eroded))
    return 0.12 <= covered <= 0.4 and all(seen) and in_one_piece
