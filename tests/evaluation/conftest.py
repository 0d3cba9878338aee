"""Pictures that several tests judge."""

import numpy as np
import pytest
from PIL import Image

from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.layout import draft_of, lay_out
from srum_jax.worlds.shapes.prompts import parse_prompt
from tests.evaluation.drawn import BENCHMARK, ITEMS


@pytest.fixture
def drawn(tmp_path):
    """Pictures of every item; those of even numbers fit, the others show nothing."""
    folder = tmp_path / "pictures"
    for number, item in enumerate(ITEMS):
        path = folder / BENCHMARK.image(item, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((48, 48, 3), 255, np.uint8)
        if number % 2 == 0:
            rng = np.random.default_rng(number)
            pixels = render(lay_out(draft_of(parse_prompt(item.prompt), rng), rng), 48).image
        Image.fromarray(pixels).save(path)
    return folder
