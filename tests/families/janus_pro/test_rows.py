"""Examples as slots of a row."""

import dataclasses
import pickle

import numpy as np
import pytest

from srum_jax.data.errors import CapacityError, SchemaError
from srum_jax.data.example import Example, Picture
from srum_jax.data.stored_code import StoredCode
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.rows import CODES, JanusPacker
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.objectives.columns import ColumnNames
from srum_jax.rewards.boxes import Box
from srum_jax.weights.tokenizer import load_tokenizer
from tests.families.janus_pro import tiny_checkpoint

MODEL = JANUS_PRO.read_config(tiny_checkpoint.shared())
TOKENS, SIDE = MODEL.special_tokens, tiny_checkpoint.PICTURE_SIDE
ROWS = JanusRows(samples_per_row=2, text_capacity=32, readings_per_row=1, reading_capacity=96, answer_capacity=8)
PIXELS = np.random.default_rng(0).integers(0, 256, (SIDE, 2 * SIDE, 3), np.uint8)
SHA = bytes(range(32))


def packer(rows=ROWS, sha=None):
    return JanusPacker(rows, MODEL, load_tokenizer(tiny_checkpoint.shared()),
                       ColumnNames(image=("reward_map",), text=("side",)), sha)


def drawing(prompt="a red circle", columns=lambda grid: {}, pixels=PIXELS, **changes):
    return Example(prompt, Picture(*pixels.shape[1::-1], pixels=pixels, **changes), columns)


def reading(answer="a red circle", question="what is in the picture"):
    picture = Picture(*PIXELS.shape[1::-1], pixels=PIXELS)
    return Example(question, picture, lambda grid: {}, {"side": -1.0}, kind="reading", answer=answer)


def filled(*examples, of=None):
    row = (of or packer()).empty_row()
    for example in examples:
        row.add(example, np.random.default_rng(0))
    return row.finish()


def test_a_drawing_is_its_prompt_at_the_end_of_its_slot_and_the_middle_of_its_picture():
    row = filled(drawing())
    length = row.length[0]
    prompt = row.ids[0, -length:]
    assert (prompt[0], prompt[-1]) == (TOKENS.bos, TOKENS.image_start) and np.all(row.ids[0, :-length] == TOKENS.pad)
    np.testing.assert_array_equal(row.pixels[0], PIXELS[:, SIDE // 2 : -SIDE // 2])
    assert row.sample.tolist() == [0, -1] and row.codes is None


def test_columns_are_computed_for_the_part_that_is_drawn():
    grids = []

    def columns(grid):
        grids.append(grid)
        return {"reward_map": np.arange(36, dtype=np.float32).reshape(6, 6)}

    row = filled(drawing(), drawing(columns=columns))
    [grid] = grids
    assert (grid.rows, grid.columns, grid.width, grid.height) == (6, 6, SIDE, SIDE)
    assert grid.window == Box(SIDE // 2, 0, SIDE // 2 + SIDE, SIDE)
    np.testing.assert_array_equal(row.image_columns["reward_map"], [*[0] * 36, *range(36)])


def test_a_prompt_that_is_left_out_leaves_a_slot_of_the_same_length():
    told, silent = (filled(dataclasses.replace(drawing(), prompt_left_out=out)) for out in (False, True))
    assert told.length[0] == silent.length[0]
    inner = slice(ROWS.text_capacity - told.length[0] + 1, -1)
    assert np.all(silent.ids[0, inner] == TOKENS.pad) and not np.any(told.ids[0, inner] == TOKENS.pad)
    assert (silent.ids[0, inner.start - 1], silent.ids[0, -1]) == (TOKENS.bos, TOKENS.image_start)


def test_a_reading_predicts_its_answer_and_the_token_that_ends_it():
    row = filled(reading()).readings
    count = int(np.sum(row.answer_weights > 0))
    places, labels = row.answer_index[0, :count], row.answer_ids[0, :count]
    np.testing.assert_array_equal(row.ids[0][places + 1], labels)
    assert labels[-1] == TOKENS.eos and row.length[0] == places[-1] + 2
    assert np.sum(row.ids[0] == TOKENS.image) == MODEL.vision.num_tokens
    assert row.answer_weights[0, 0] == pytest.approx(1 / np.sqrt(count))


def test_columns_of_a_reading_lie_beside_its_answer():
    row = filled(reading())
    np.testing.assert_array_equal(row.text_columns["side"] == -1, row.readings.answer_weights[0] > 0)


@pytest.mark.parametrize("examples, field", [
    ([drawing()] * 3, "samples_per_row"), ([reading()] * 2, "readings_per_row"),
    ([drawing("a red circle and " * 20)], "text_capacity"), ([reading(question="what is " * 40)], "reading_capacity"),
    ([reading("a red circle and " * 3)], "answer_capacity"),
])
def test_what_does_not_fit_is_refused_by_the_capacity_and_leaves_the_row_as_it_was(examples, field):
    row = packer().empty_row()
    for example in examples[:-1]:
        row.add(example, None)
    before = pickle.dumps(row.finish())
    with pytest.raises(CapacityError, match=rf"rows\.{field}"):
        row.add(examples[-1], None)
    assert pickle.dumps(row.finish()) == before


CODE = np.arange(36).reshape(6, 6)


def stored(values=CODE, **changes):
    code = StoredCode.of(CODES, values, "int32", image=(SIDE, SIDE), canvas=(SIDE, SIDE), encoder_sha256=SHA)
    return dataclasses.replace(code, **changes)


def test_stored_codes_take_the_place_of_pixels():
    of = packer(dataclasses.replace(ROWS, codes="stored"), SHA)
    row = filled(drawing(code=stored()), of=of)
    np.testing.assert_array_equal(row.codes[0], CODE.ravel())
    assert row.pixels.shape == (2, 0, 0, 3)


@pytest.mark.parametrize("code, field", [
    (None, "code/values"), (stored(kind="posterior"), "code/kind"), (stored(image_height=24), "code/image_height"),
    (stored(np.zeros((4, 4))), "code/shape"), (stored(encoder_sha256=bytes(32)), "code/encoder_sha256"),
    (stored(np.full((6, 6), 64)), "code/values"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_codes_that_are_not_of_this_run_are_refused_by_field(code, field):
    of = packer(dataclasses.replace(ROWS, codes="stored"), SHA)
    with pytest.raises(SchemaError, match=field):
        of.check(drawing(code=code).picture)


@pytest.mark.parametrize("changes", [{"text_capacity": 480}, {"reading_capacity": 600}], ids=str)
def test_sizes_that_do_not_go_with_the_model_are_refused(changes):
    with pytest.raises(ValueError, match=rf"rows\.{next(iter(changes))}"):
        packer(dataclasses.replace(ROWS, **changes))
