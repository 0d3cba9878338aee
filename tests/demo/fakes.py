"""A model that draws two squares and says of them what a test tells it to; everything around it is real."""

import types

import numpy as np

from srum_jax.demo.arguments import read_arguments
from srum_jax.demo.engine import Engine
from srum_jax.families.registry import family_of
from srum_jax.inference.requests import Answer, GeneratedImage, Question, RequestError
from srum_jax.pipeline import small_files

# On a grey ground of 48 x 48 pixels, which the tiny base lays out as 6 x 6 tokens of 8 x 8 pixels.
LEFT, RIGHT = (8, 16, 24, 32), (32, 16, 48, 32)  # x0, y0, x1, y1
NUM_STEPS = 20


def squares():
    """uint8 [48, 48, 3]: a red square on the left, a blue one on the right."""
    pixels = np.full((48, 48, 3), 230, np.uint8)
    for (x0, y0, x1, y1), colour in ((LEFT, (200, 30, 30)), (RIGHT, (30, 30, 200))):
        pixels[y0:y1, x0:x1] = colour
    return pixels


class DrawsSquares:
    """A `Pipeline`. `says(question)` is its answer."""

    def __init__(self, says):
        self.says = says
        self.generator = types.SimpleNamespace(default_size=(48, 48))
        self.requests, self.plans = [], []

    def check(self, request):
        if not isinstance(request, Question) and request.image is not None:
            raise RequestError("image: expected none.")

    def generate(self, requests, *, plan=None, on_step=None, on_plan=None):
        self.requests += requests
        self.plans.append(plan)
        for words in ("two", "two squares") if on_plan else ():
            on_plan(dict.fromkeys(range(len(requests)), words))
        for step in range(NUM_STEPS if on_step else 0):
            grey = np.full((48, 48, 3), step, np.uint8)
            on_step(step, NUM_STEPS, 1 - step / NUM_STEPS, lambda grey=grey: dict.fromkeys(range(len(requests)), grey))
        return [GeneratedImage(squares(), None if plan is None else "two squares") for _ in requests]

    def answer(self, questions, *, sampler=None, think=False, allow_non_finite=False):
        texts = [self.says(question.prompt) for question in questions]
        return [Answer(text, None, False, len(text), text) for text in texts]


def engine(says=lambda question: "score: 1.0", *words):
    """An engine of the shipped model's settings, and of words as on the command line."""
    arguments, settings = read_arguments(["--provider", "components", *words])
    family = family_of(arguments.checkpoint)
    return Engine("squares", family, small_files(family, arguments.checkpoint), DrawsSquares(says), settings)
