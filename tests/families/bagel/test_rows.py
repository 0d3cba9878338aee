import dataclasses
import pickle

import numpy as np
import pytest

from srum_jax.data.errors import CapacityError, ImageError, SchemaError
from srum_jax.data.example import Example, Picture
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.rows import BagelPacker
from srum_jax.models.bagel.config import VisionConfig
from srum_jax.objectives.columns import ColumnNames
from srum_jax.rewards.boxes import Box
from tests.data.made_up import MODEL, LetterTokenizer

ROWS = BagelRows(samples_per_row=2, text_capacity=40, vit_capacity=64, latent_capacity=64, ce_capacity=12,
                 images_per_row=2, image_height=24, image_width=24, max_size=24, min_size=8, stride=4)
READER = dataclasses.replace(
    MODEL, vit=VisionConfig(hidden_size=16, intermediate_size=24, num_heads=2, num_layers=1, image_size=56,
                            patch_size=7, num_channels=3, layer_norm_eps=1e-6),
    vit_max_num_patch_per_side=8)
COLUMNS = ColumnNames(image=("advantage",), text=("side",))
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def packer(model=READER, **changes):
    return BagelPacker(dataclasses.replace(ROWS, **changes), model, LetterTokenizer(), COLUMNS)


def drawing(prompt="ab", columns=lambda grid: {}, **changes):
    return Example(prompt=prompt, picture=Picture(24, 20, pixels=PIXELS), image_columns=columns, **changes)


def filled(*examples, seed=0, **changes):
    row = packer(**changes).empty_row()
    for example in examples:
        row.add(example, np.random.default_rng(seed))
    return row.finish()


def test_columns_are_computed_for_the_grid_that_the_picture_gets_and_lie_beside_its_tokens():
    grids = []

    def columns(grid):
        grids.append(grid)
        return {"advantage": np.arange(grid.rows * grid.columns, dtype=np.float32).reshape(grid.rows, grid.columns)}

    row = filled(drawing(columns=columns))
    (grid,) = grids
    assert (grid.rows, grid.columns, grid.window) == (5, 6, Box(0, 0, 24, 20))
    assert (grid.width, grid.height) == (24, 20)
    assert row.image_columns["advantage"][:30].tolist() == list(range(30))
    assert (row.image_columns["advantage"][30:] == 0).all()


def test_a_picture_is_drawn_after_its_prompt_or_after_nothing():
    with_prompt, without = filled(drawing()), filled(drawing(prompt_left_out=True))
    assert with_prompt.text_ids[:6].tolist() == [150, ord("a"), ord("b"), 151, 152, 153]
    assert without.text_ids[:3].tolist() == [152, 153, 0]
    assert without.latent.position[0] == 0 and with_prompt.latent.position[0] == 4


def test_a_picture_is_read_before_the_question_and_the_answer_is_learnt():
    example = drawing("why", kind="reading", answer="so", text_columns={"side": -1.0})
    row = filled(example)
    assert np.isneginf(row.timestep_logit).all() and (row.latent.sample == -1).all(), "nothing is drawn"
    patches = int((row.vit.sample >= 0).sum())
    assert patches > 0 and patches == int(np.any(row.vit_patches != 0, axis=1).sum())
    expected = [152, 153, 150, *map(ord, "why"), 151, 150, *map(ord, "so"), 151]
    assert row.text_ids[: len(expected)].tolist() == expected
    assert row.ce_labels[:3].tolist() == [ord("s"), ord("o"), 151]
    assert row.text_ids[row.ce_index[:3]].tolist() == [150, ord("s"), ord("o")]
    assert row.text_columns["side"].tolist() == [-1.0] * 3 + [0.0] * 9


@pytest.mark.parametrize("example, changes, reason", [
    (drawing("why", kind="reading", answer="so"), {"model": MODEL, "vit_capacity": 0}, "no vision tower"),
    (drawing("why", kind="reading", answer="so" * 9), {}, "ce_capacity"),
    (drawing("x" * 60), {}, "text_capacity"),
])
def test_an_example_that_has_no_place_leaves_the_row_as_it_was(example, changes, reason):
    whole = packer(**changes)
    row = whole.empty_row()
    row.add(drawing(), np.random.default_rng(0))
    with pytest.raises(CapacityError, match=reason):
        row.add(example, np.random.default_rng(1))
    alone = whole.empty_row()
    alone.add(drawing(), np.random.default_rng(0))
    for name, values in vars(row.finish()).items():
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(values, getattr(alone.finish(), name), err_msg=name)


def test_an_empty_row_has_the_shapes_of_a_full_one():
    def shapes(row):
        return [(name, values.shape, values.dtype) for name, values in vars(row).items()
                if isinstance(values, np.ndarray)]

    assert shapes(packer().empty_row().finish()) == shapes(filled(drawing(), drawing("c")))


def test_a_packer_can_be_sent_to_another_process():
    row = pickle.loads(pickle.dumps(packer())).empty_row()
    row.add(drawing(), np.random.default_rng(0))
    np.testing.assert_array_equal(row.finish().timestep_logit, filled(drawing()).timestep_logit)


def test_a_picture_that_is_not_what_it_says_is_refused():
    with pytest.raises(SchemaError, match="image/encoded"):
        Picture(8, 8).image()
    with pytest.raises(ImageError):
        Picture(8, 8, encoded=b"no image").image()


class NamedMarkers(LetterTokenizer):
    """Reads "[" as the marker that starts an image: always, or only where control tokens are asked for."""

    def __init__(self, always):
        self.always = always

    def encode(self, text, *, control_tokens=False):
        return [152 if letter == "[" and (self.always or control_tokens) else ord(letter) for letter in text]


@pytest.mark.parametrize("control_tokens", [False, True])
def test_names_of_control_tokens_in_a_prompt_are_text_unless_they_are_asked_to_act(control_tokens):
    rows = dataclasses.replace(ROWS, control_tokens=control_tokens)
    row = BagelPacker(rows, READER, NamedMarkers(always=False), COLUMNS).empty_row()
    row.add(drawing("a["), np.random.default_rng(0))
    assert row.finish().text_ids[:4].tolist() == [150, ord("a"), 152 if control_tokens else ord("["), 151]


def test_a_control_token_that_cannot_be_read_as_text_is_refused():
    row = BagelPacker(ROWS, READER, NamedMarkers(always=True), COLUMNS).empty_row()
    with pytest.raises(CapacityError, match="control token 152"):
        row.add(drawing("a["), np.random.default_rng(0))
