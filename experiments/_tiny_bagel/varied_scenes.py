"""Scenes with more of what is rare in the world: textures, overlaps, and places and sizes off its grid."""

import dataclasses

import numpy as np

from srum_jax.worlds.shapes.drawing import pixel_box, render
from srum_jax.worlds.shapes.layout import draft_of, lay_out
from srum_jax.worlds.shapes.prompts import sample_prompt
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.scene import COLORS, SHAPES, TEXTURES, Scene, Shape

_SIDES = (8 / 48, 22 / 48)  # of an object anywhere
_MOST_OBJECTS = 7
_TRIES = 4  # per object
_CHECK_SIZE = 48  # pixels at which it is counted what is still seen
_LEAST_SEEN = 0.5  # share of an object that others leave uncovered


def varied_scene(
    seed: int, number: int, textured: float = 0.5, overlapping: float = 0.25, held_out: bool = False
) -> Scene:
    """A scene of the world with some textures drawn anew. Depends on nothing but its arguments.

    Args:
      seed, number: of the scene.
      textured: share of the objects that get a texture drawn anew.
      overlapping: share of the scenes that are drawn for a prompt of the category "3d-spatial".
      held_out: prompts of the held-out set instead of the training set.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, number]))
    if rng.random() < overlapping:
        scene = lay_out(draft_of(sample_prompt(rng, "3d-spatial", held_out), rng), rng)
    else:
        scene = sample_example(seed, number, 0.3, held_out).scene
    return Scene(tuple(
        dataclasses.replace(shape, texture=TEXTURES[rng.integers(len(TEXTURES))])
        if rng.random() < textured else shape
        for shape in scene.shapes
    ))


def free_scene(rng: np.random.Generator) -> Scene:
    """Objects of any size anywhere, at most half of each covered; the world itself lays out nothing like it."""
    shapes: tuple[Shape, ...] = ()
    for _ in range(int(rng.integers(1, _MOST_OBJECTS + 1))):
        for _ in range(_TRIES):
            tried = (*shapes, _free_shape(rng))
            if _all_seen(Scene(tried)):
                shapes = tried
                break
    return Scene(shapes)


def _free_shape(rng: np.random.Generator) -> Shape:
    side = rng.uniform(*_SIDES)
    x, y = rng.uniform(side / 2 + 0.02, 0.98 - side / 2, 2)
    names = (values[rng.integers(len(values))] for values in (SHAPES, COLORS, TEXTURES))
    return Shape(*names, float(x), float(y), float(side))


def _all_seen(scene: Scene) -> bool:
    if not all(pixel_box(shape, _CHECK_SIZE).inside(_CHECK_SIZE, _CHECK_SIZE) for shape in scene.shapes):
        return False
    owner = render(scene, _CHECK_SIZE).owner
    return all(
        (owner == number).sum() >= _LEAST_SEEN * (render(Scene((shape,)), _CHECK_SIZE).owner == 0).sum()
        for number, shape in enumerate(scene.shapes)
    )
