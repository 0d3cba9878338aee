"""Examples as slots of a row."""

import dataclasses
import pickle
import re

import jax
import numpy as np
import pytest

from srum_jax.data.errors import CapacityError, ImageError, SchemaError
from srum_jax.data.example import Example, Picture
from srum_jax.data.stored_code import StoredCode
from srum_jax.errors import BadInput
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.rows import FEATURES, Blip3oPacker
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.objectives.columns import ColumnNames
from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.boxes import Box
from srum_jax.weights.tokenizer import load_tokenizer
from tests.families.blip3o.tiny_checkpoint import shared

ROWS = Blip3oRows(samples_per_row=2, text_capacity=56, readings_per_row=2, reading_capacity=48, reading_windows=4,
                  answer_capacity=6)
COLUMNS = ColumnNames(image=("advantage",), text=("side",))
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
MODEL = Blip3oConfig.from_directory(shared())
TOKENS, GRID = MODEL.special_tokens, MODEL.dit.grid


def packer(sha256=None, **changes):
    return Blip3oPacker(dataclasses.replace(ROWS, **changes), MODEL, load_tokenizer(shared()), COLUMNS, sha256)


def drawing(prompt="a red circle", columns=lambda grid: {}, **changes):
    return Example(prompt, Picture(96, 64, pixels=PIXELS, **changes), columns)


def reading(answer="a red circle", question="what is in the picture", pixels=PIXELS):
    picture = Picture(*pixels.shape[1::-1], pixels=pixels)
    return Example(question, picture, lambda grid: {}, {"side": -1.0}, kind="reading", answer=answer)


def filled(*examples, of=None):
    row = (of or packer()).empty_row()
    for example in examples:
        row.add(example, np.random.default_rng(0))
    return row.finish()


def test_a_drawing_is_its_prompt_the_start_of_an_image_and_the_queries():
    row, words = filled(drawing()), load_tokenizer(shared()).encode("a red circle")
    first, ids = row.first_query[0], row.ids[0].tolist()
    assert ids[first - 1 : first + 9] == [TOKENS.image_start, *[TOKENS.image_query] * 8, TOKENS.pad]
    closed = [TOKENS.turn_end, *load_tokenizer(shared()).encode("\n")]
    assert ids[first - 1 - len(closed) : first - 1] == closed
    at = ids.index(words[0], 20)
    assert ids[at : at + len(words) + 1] == [*words, TOKENS.turn_end]
    assert row.sample.tolist() == [0, -1] and row.conditioned.tolist() == [True, False]
    assert set(row.ids[1].tolist()) == {TOKENS.pad}


def test_the_assistants_turn_may_stay_open_as_when_a_picture_is_drawn():
    closed, opened = (filled(drawing(), of=packer(assistant_turn=turn)) for turn in ("closed", "open"))
    assert closed.first_query[0] - opened.first_query[0] == 2


def test_a_picture_without_prompt_is_drawn_after_nothing():
    row = filled(dataclasses.replace(drawing(), prompt_left_out=True))
    assert row.ids[0, :2].tolist() == [TOKENS.image_start, TOKENS.image_query]
    assert not row.conditioned[0] and row.sample[0] == 0


def test_columns_are_computed_for_the_middle_of_the_picture_and_lie_beside_its_features():
    grids = []

    def columns(grid):
        grids.append(grid)
        return {"advantage": np.arange(grid.rows * grid.columns, dtype=np.float32).reshape(grid.rows, grid.columns)}

    row = filled(drawing(), drawing(columns=columns))
    (grid,) = grids
    assert (grid.rows, grid.columns, grid.window) == (GRID, GRID, Box(16, 0, 80, 64))
    assert (grid.width, grid.height) == (56, 56)
    assert row.image_columns["advantage"].tolist() == [0.0] * GRID**2 + list(range(GRID**2))


def test_a_box_moves_with_the_crop():
    @dataclasses.dataclass
    class Region:
        box: Box
        score: float

    @dataclasses.dataclass
    class Judged:
        regions: list
        image_width: int = 96
        image_height: int = 64
        global_score: float = 1.0
        provider: str = "grounding"

    maps = []
    for box in (Box(16, 0, 48, 32), Box(0, 0, 16, 64)):  # the left upper quarter of what is seen; what is cut off
        objective, judged = RewardWeighted(), Judged([Region(box, 1.0)])
        seen = []
        filled(drawing(columns=lambda grid, seen=seen, o=objective, j=judged: (
            seen.append(o.columns_of(j, grid)["reward_map"]), {})[1]))
        maps.append(seen[0])
    quarter = np.zeros((GRID, GRID), bool)
    quarter[: GRID // 2, : GRID // 2] = True
    np.testing.assert_array_equal(maps[0] > 0.5, quarter)
    assert (maps[1] == maps[1][0, 0]).all()


def test_an_answer_is_predicted_from_the_token_before_each_of_its_own():
    row = filled(drawing(), reading())
    readings, answer = row.readings, [*load_tokenizer(shared()).encode("a red circle"), TOKENS.turn_end]
    count = len(answer)
    assert readings.sample.tolist() == [1, -1]
    assert readings.answer_ids[0, :count].tolist() == answer
    assert readings.ids[0][readings.answer_index[0, :count] + 1].tolist() == answer
    assert readings.length[0] == readings.answer_index[0, count - 1] + 2
    assert row.text_columns["side"].tolist() == [-1.0] * count + [0.0] * (12 - count)
    pictures = np.sum(readings.ids[0] == TOKENS.image_pad)
    assert pictures == readings.pictures.real[0].sum() // 4 == 6


@pytest.mark.parametrize("wrong, reason", [
    ([drawing(prompt="a red circle " * 12)], "text_capacity"),
    ([drawing(), drawing(), drawing()], "samples_per_row"),
    ([reading(), reading(), reading()], "readings_per_row"),
    ([reading(answer="a red circle and a blue square")], "answer_capacity"),
    ([reading(question="what is in the picture " * 8)], "reading_capacity"),
    ([reading(pixels=np.zeros((64, 640, 3), np.uint8))], "reading_windows"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_finds_no_room_is_refused_by_the_setting_and_leaves_the_row_as_it_was(wrong, reason):
    row = packer().empty_row()
    for example in wrong[:-1]:
        row.add(example, np.random.default_rng(0))
    before = pickle.dumps(row.finish())
    with pytest.raises(CapacityError, match=reason):
        row.add(wrong[-1], np.random.default_rng(0))
    assert pickle.dumps(row.finish()) == before


def test_a_picture_that_cannot_be_decoded_leaves_the_row_as_it_was():
    row = packer().empty_row()
    before = pickle.dumps(row.finish())
    with pytest.raises(ImageError):
        row.add(Example("a", Picture(4, 4, encoded=b"no image"), lambda grid: {}), np.random.default_rng(0))
    assert pickle.dumps(row.finish()) == before


def code(shape=(GRID, GRID, 32), side=56, kind=FEATURES, sha256=b"e" * 32):
    values = np.arange(np.prod(shape)).reshape(shape) / 64
    return StoredCode.of(kind, values, "float16", image=(side, side), canvas=(side, side), encoder_sha256=sha256)


def test_stored_features_are_taken_instead_of_pixels():
    stored = packer(b"e" * 32, features="stored")
    row = filled(drawing(code=code()), of=stored)
    np.testing.assert_array_equal(row.features[0], code().array)
    assert row.pixels.size == 0 and filled().features is None
    stored.check(drawing(code=code()).picture)


@pytest.mark.parametrize("wrong, field", [
    (None, "code/values"), (code(kind="posterior"), "code/kind"), (code(side=64), "code/image_height"),
    (code(shape=(2, 2, 32)), "code/shape"), (code(sha256=b"x" * 32), "code/encoder_sha256"),
])
def test_stored_features_of_another_model_are_refused_by_the_field(wrong, field):
    with pytest.raises(SchemaError) as caught:
        packer(b"e" * 32, features="stored").check(drawing(code=wrong).picture)
    assert caught.value.field == field and "precompute_latents" in str(caught.value)


def test_sizes_that_the_model_cannot_take_are_refused_by_the_setting():
    with pytest.raises(ValueError, match=r"rows\.text_capacity"):
        packer(text_capacity=8)
    with pytest.raises(ValueError, match=r"rows\.reading_capacity"):
        packer(reading_capacity=1024)
    with pytest.raises(ValueError, match=r"rows\.answer_capacity"):
        Blip3oRows(answer_capacity=4)


@pytest.mark.parametrize("turn", ["open", "closed"])
def test_a_slot_holds_at_least_what_is_put_around_a_prompt(turn):
    with pytest.raises(ValueError, match=r"rows\.text_capacity: expected at least (\d+)") as caught:
        packer(text_capacity=20, assistant_turn=turn)
    least = int(re.search(r"at least (\d+)", str(caught.value))[1])
    filled(drawing(""), of=packer(text_capacity=least, assistant_turn=turn))
    with pytest.raises(CapacityError, match=r"text_capacity"):
        filled(drawing("a"), of=packer(text_capacity=least, assistant_turn=turn))


def test_the_tokenizer_of_another_model_is_refused_by_the_token():
    model = dataclasses.replace(MODEL, special_tokens=dataclasses.replace(TOKENS, image_start=5))
    with pytest.raises(BadInput, match=r"\[IMG\] as token 5"):
        Blip3oPacker(ROWS, model, load_tokenizer(shared()), COLUMNS)


def test_a_packer_can_be_sent_to_another_process():
    ours, theirs = (filled(drawing(), reading(), of=one) for one in (packer(), pickle.loads(pickle.dumps(packer()))))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
