"""Puts objects into a scene so that a relation holds."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import scipy  # its rooms are opened when they are entered

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

# Lengths come in steps of 1 / 48, so that a picture of 48 pixels, the tiny model's, is exact to the pixel.
STEP = 1 / 48
CELLS = 3  # along each side of the image; an object lies in the middle of its cell
_SIDES = (12, 14)  # of an object, in steps
SMALL, LARGE = 10, 14  # of two objects whose sizes are compared
BACK, FRONT = 20, 14  # of two objects that overlap
_BACK_CENTERS = (20, 24, 28)  # across and down
TIDY_BACK_CENTER = 24
FRONT_SHIFT = 8  # steps between their centers, in either direction or in both
_FRONT_SHIFTS = tuple(place for place in itertools.product((-FRONT_SHIFT, 0, FRONT_SHIFT), repeat=2) if place != (0, 0))
# Tidy pictures: where n objects lie, in the order in which they are named.
_ROW, _CORNERS = ((1, 0), (1, 1), (1, 2)), ((0, 0), (0, 2), (2, 0), (2, 2))
_TIDY_CELLS = (
    (), _ROW[1:2], _ROW[::2], _ROW, _CORNERS, (*_CORNERS[:2], (1, 1), *_CORNERS[2:]),
    tuple((row, column) for row in (0, 2) for column in range(CELLS)),
    (*((0, column) for column in range(CELLS)), (1, 1), *((2, column) for column in range(CELLS))),
)
_CHECK_SIZE = 128  # pixels at which the overlap of two objects is checked
_NECK = np.ones((9, 9), bool)  # at that size; where a covered object is thinner, smaller images could split it


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
        center = rng.choice(_BACK_CENTERS, 2)
        return _overlapping(draft, pair, center, (_FRONT_SHIFTS[n] for n in rng.permutation(len(_FRONT_SHIFTS))))
    if len(draft.objects) > CELLS**2:
        raise ValueError(f"a scene has at most {CELLS**2} objects, found {len(draft.objects)}.")
    sides = rng.choice(_SIDES, len(draft.objects))
    places: dict[int, tuple[int, int]] = {}
    if pair is not None and draft.relation.kind in SIZE_RELATIONS:
        sides[list(pair)] = _compared_sides(draft.relation.kind, rng)
    elif pair is not None:
        places = _spatial_cells(draft.relation.kind, pair, rng)
    cells = ((row, column) for row in range(CELLS) for column in range(CELLS))
    free = [cell for cell in cells if cell not in places.values()]
    order = rng.permutation(len(free))
    for number, choice in zip((n for n in range(len(draft.objects)) if n not in places), order, strict=False):
        places[number] = free[choice]
    return _scene(draft, [places[number] for number in range(len(draft.objects))], sides)


def lay_out_tidily(draft: Draft) -> Scene:
    """The same with sizes and places that follow from the draft: objects lie in the order in which they are named.

    Raises:
      ValueError: more objects than places.
    """
    draft = dataclasses.replace(draft, objects=tuple(sorted(draft.objects, key=lambda entry: entry.phrase)))
    pair, count = _related(draft), len(draft.objects)
    if pair is not None and draft.relation.kind in DEPTH_RELATIONS:
        return _overlapping(draft, pair, np.full(2, TIDY_BACK_CENTER), reversed(_FRONT_SHIFTS))
    if count >= len(_TIDY_CELLS):
        raise ValueError(f"a tidy scene has at most {len(_TIDY_CELLS) - 1} objects, found {count}.")
    sides, cells = [LARGE] * count, list(_TIDY_CELLS[count])
    if pair is not None and draft.relation.kind in SIZE_RELATIONS:
        smaller = {"smaller than": pair[0], "larger than": pair[1]}.get(draft.relation.kind)
        if smaller is not None:
            sides[smaller] = SMALL
    elif pair is not None:
        ends = _ROW[::2] if draft.relation.kind in ("left of", "right of") else tuple((x, y) for y, x in _ROW[::2])
        first, second = ends if draft.relation.kind in ("left of", "above") else reversed(ends)
        others = iter(_CORNERS)
        cells = [first if n == pair[0] else second if n == pair[1] else next(others) for n in range(count)]
    return _scene(draft, cells, sides)


def _scene(draft: Draft, cells: Sequence[tuple[int, int]], sides: Sequence[int]) -> Scene:
    """Objects in the middle of their cells (row, column); sides in steps."""
    return Scene(tuple(
        Shape(entry.shape, entry.color, entry.texture, (column + 0.5) / CELLS, (row + 0.5) / CELLS,
              int(side) * STEP)
        for entry, (row, column), side in zip(draft.objects, cells, sides, strict=True)
    ))


def _related(draft: Draft) -> tuple[int, int] | None:
    """The objects that the relation is about."""
    if draft.relation is None:
        return None
    phrases = [entry.phrase for entry in draft.objects]
    wanted = (draft.relation.subject, draft.relation.object)
    return tuple(phrases.index(number) for number in wanted) if set(wanted) <= set(phrases) else None


def _compared_sides(kind: str, rng: np.random.Generator) -> tuple[int, int]:
    if kind == "the same size as":
        return (int(rng.choice(_SIDES)),) * 2
    return (LARGE, SMALL) if kind == "larger than" else (SMALL, LARGE)


def _spatial_cells(kind: str, pair: tuple[int, int], rng: np.random.Generator) -> dict[int, tuple[int, int]]:
    low, high = sorted(rng.choice(CELLS, 2, replace=False).tolist())
    across = int(rng.integers(CELLS))
    first, second = (low, high) if kind in ("left of", "above") else (high, low)
    if kind in ("left of", "right of"):
        return {pair[0]: (across, first), pair[1]: (across, second)}
    return {pair[0]: (first, across), pair[1]: (second, across)}


def _overlapping(
    draft: Draft, pair: tuple[int, int], center: np.ndarray, shifts: Iterable[tuple[int, int]]
) -> Scene:
    """Two objects, one of which covers a part of the other; both stay recognisable. The first shift that does."""
    front, back = pair if draft.relation.kind == "in front of" else reversed(pair)
    for shift in shifts:
        shapes = tuple(
            Shape(entry.shape, entry.color, entry.texture, *(float(value) * STEP for value in place), side * STEP)
            for entry, place, side in (
                (draft.objects[back], center, BACK),
                (draft.objects[front], center + shift, FRONT),
            )
        )
        scene = Scene(shapes)
        if _partly_covered(scene):
            return scene
    raise ValueError(f"found no place for a {shapes[1].shape} in front of a {shapes[0].shape}.")


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
    eroded = scipy.ndimage.binary_erosion(visible, _NECK)
    in_one_piece = all(scipy.ndimage.label(mask)[1] == 1 for mask in (visible, eroded))
    return 0.12 <= covered <= 0.4 and all(seen) and in_one_piece
