"""Examples as rows of Janus-Pro: fixed slots of two kinds.

    drawing     the prompt in the layout of a request for a picture; the picture's codes are predicted behind it
    reading     a question about the picture, its answer to be predicted
"""

from typing import Any

import numpy as np

from srum_jax.data.errors import SchemaError
from srum_jax.data.example import Example, Picture, RandomDraws, Tokenizer
from srum_jax.data.image_transform import to_rgb
from srum_jax.errors import check
from srum_jax.families.janus_pro.batch import JanusBatch, Readings
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.packer import ModelPacker
from srum_jax.families.slots import SlotRow, empty_readings, empty_slots, flat_columns, require_room
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.pictures import middle_square, view_to_draw, view_to_read
from srum_jax.models.janus_pro.prompts import answer_ids, generation_prompt, understanding_prompt, without_text
from srum_jax.objectives.columns import ColumnNames
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.token_grid import Grid

CODES = "codes"  # the kind of code that records hold
CODES_DTYPE = "int32"


class JanusPacker(ModelPacker):
    """Makes rows of Janus-Pro."""

    encoder = "the picture tokenizer"

    def __init__(self, rows: JanusRows, model: JanusConfig, tokenizer: Tokenizer | None, columns: ColumnNames,
                 encoder_sha256: bytes | None = None):
        most = model.llm.max_position_embeddings
        check("rows.text_capacity", rows.text_capacity + model.vq.num_codes <= most,
              f"at most the {most} positions of the model less the {model.vq.num_codes} codes of a picture",
              rows.text_capacity)
        check("rows.reading_capacity", rows.reading_capacity <= most, f"at most the {most} positions of the model",
              rows.reading_capacity)
        super().__init__(rows, model, tokenizer, columns, encoder_sha256)

    def empty_row(self) -> "JanusRow":
        """A new row."""
        return JanusRow(self, _empty(self))

    def expected_code(self, picture: Picture) -> dict[str, Any]:
        """See `ModelPacker`: codes, int32 [g, g]."""
        vq, sides = self.model.vq, ("image_height", "image_width", "canvas_height", "canvas_width")
        return {"kind": CODES, **dict.fromkeys(sides, vq.image_size), "shape": (vq.grid, vq.grid),
                "dtype": CODES_DTYPE}

    def stored(self, picture: Picture) -> np.ndarray:
        """See `ModelPacker`; int32 [N], each of the codebook."""
        values, size = super().stored(picture).reshape(-1), self.model.vq.codebook_size
        if not 0 <= values.min() <= values.max() < size:
            raise SchemaError("code/values", f"numbers below the {size} codes of the model",
                              f"{values.min()} to {values.max()}")
        return values


class JanusRow(SlotRow):
    """A row while it is filled."""

    def _add_drawing(self, example: Example, draws: RandomDraws) -> None:
        del draws  # nothing here is random
        packer, batch, slot = self._packer, self._batch, self._drawn
        rows, model, picture = packer.rows, packer.model, example.picture
        prompt = generation_prompt(example.prompt, packer.encode, model.special_tokens)
        if example.prompt_left_out:
            prompt = without_text(prompt, model.special_tokens)
        require_room(len(prompt), rows, "text_capacity", "tokens of its prompt")
        size, side = model.vq.image_size, model.vq.grid
        grid = Grid(side, side, Box(*middle_square(picture.width, picture.height)), size, size)
        columns = flat_columns(example, grid)
        values = packer.stored(picture) if rows.stored_codes else view_to_draw(to_rgb(picture.image()), size)

        # From here on nothing is refused.
        self._place_drawing(values, columns)
        batch.length[slot] = len(prompt)
        batch.ids[slot, rows.text_capacity - len(prompt) :] = prompt

    def _add_reading(self, example: Example) -> None:
        packer, model, tokens = self._packer, self._packer.model, self._packer.model.special_tokens
        question = understanding_prompt(example.prompt, 1, model.vision.num_tokens, packer.encode, tokens)
        answer = answer_ids(example.answer, packer.encode, tokens)
        self._require_room(question, answer)
        self._batch.readings.views[self._read] = view_to_read(to_rgb(example.picture.image()), model.vision.image_size)
        self._place_reading(question, answer, example)


def _empty(packer: JanusPacker) -> JanusBatch:
    rows, vq, view = packer.rows, packer.model.vq, packer.model.vision.image_size
    return JanusBatch(
        **empty_slots(packer, vq.image_size, vq.num_codes),
        length=np.zeros(rows.samples_per_row, np.int32),
        codes=np.zeros((rows.samples_per_row, vq.num_codes), np.int32) if rows.stored_codes else None,
        readings=Readings(**empty_readings(packer), views=np.zeros((rows.readings_per_row, view, view, 3), np.uint8)),
    )
