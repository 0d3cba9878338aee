"""Examples as rows of BLIP3o: fixed slots of two kinds.

    drawing     the prompt in the layout of a request for a picture, [IMG], queries; the picture's features are learnt
    reading     a conversation about the picture, its answer to be predicted
"""

import math
from typing import Any

import jax
import numpy as np

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import Example, Picture, RandomDraws, Tokenizer
from srum_jax.errors import check
from srum_jax.families.blip3o.batch import Blip3oBatch, Readings
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.request_reader import check_control_tokens
from srum_jax.families.packer import ModelPacker
from srum_jax.families.slots import SlotRow, empty_readings, empty_slots, flat_columns
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.patches import Pictures, arrange, eva_crop, flat_patches, middle_square
from srum_jax.models.blip3o.positions import understanding_positions
from srum_jax.models.blip3o.prompts import generation_prompt, understanding_prompt, with_queries
from srum_jax.objectives.columns import ColumnNames
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.token_grid import Grid

FEATURES = "features"  # the kind of code that records hold
FEATURES_DTYPE = "float16"


class Blip3oPacker(ModelPacker):
    """Makes rows of BLIP3o. BadInput: the tokenizer is that of another model."""

    encoder = "the EVA-CLIP tower"

    def __init__(self, rows: Blip3oRows, model: Blip3oConfig, tokenizer: Tokenizer | None, columns: ColumnNames,
                 encoder_sha256: bytes | None = None):
        for field in ("text_capacity", "reading_capacity"):
            most = model.llm.max_position_embeddings
            check(f"rows.{field}", getattr(rows, field) <= most, f"at most the {most} positions of the model",
                  getattr(rows, field))
        if tokenizer is not None:
            check_control_tokens(tokenizer, model.special_tokens)
        super().__init__(rows, model, tokenizer, columns, encoder_sha256)
        template = [] if tokenizer is None else self.prompt("")
        taken = len(template) + 1 + model.num_queries
        check("rows.text_capacity", rows.text_capacity >= taken, f"at least {taken}, which a picture takes with "
              "nothing in its prompt", rows.text_capacity)

    def prompt(self, caption: str) -> list[int]:
        """Tokens that ask for a picture, up to and without [IMG]; raises as `encode` does."""
        return generation_prompt(caption, self.encode, self.model.special_tokens, self.rows.assistant_turn)

    def empty_row(self) -> "Blip3oRow":
        """A new row."""
        return Blip3oRow(self, _empty(self))

    def expected_code(self, picture: Picture) -> dict[str, Any]:
        """See `ModelPacker`: features, float16 [G, G, C]."""
        eva = self.model.eva
        sides = ("image_height", "image_width", "canvas_height", "canvas_width")
        return {"kind": FEATURES, **dict.fromkeys(sides, eva.image_size),
                "shape": (eva.pooled_grid, eva.pooled_grid, eva.width), "dtype": FEATURES_DTYPE}


class Blip3oRow(SlotRow):
    """A row while it is filled."""

    def _add_drawing(self, example: Example, draws: RandomDraws) -> None:
        packer, batch, slot = self._packer, self._batch, self._drawn
        rows, model, picture = packer.rows, packer.model, example.picture
        text = [] if example.prompt_left_out else packer.prompt(example.prompt)
        try:
            prompt = with_queries([text], model, rows.text_capacity)
        except ValueError as error:
            raise CapacityError(f"its prompt does not fit: {error} Raise rows.text_capacity") from error
        size = model.eva.image_size
        left, top, side = middle_square(picture.width, picture.height)
        grid = Grid(model.dit.grid, model.dit.grid, Box(left, top, left + side, top + side), size, size)
        columns = flat_columns(example, grid)
        values = packer.stored(picture) if rows.stored_codes else eva_crop(picture.image(), size)

        # From here on nothing is refused.
        self._place_drawing(values, columns)
        batch.ids[slot], batch.first_query[slot] = prompt.ids[0], prompt.first_query[0]
        batch.conditioned[slot] = not example.prompt_left_out
        batch.uniform[slot] = draws.random()

    def _add_reading(self, example: Example) -> None:
        packer, rows, slot = self._packer, self._packer.rows, self._read
        model, tokens, readings = packer.model, packer.model.special_tokens, self._batch.readings
        patches, grid = flat_patches(example.picture.image(), model.vision)
        try:
            pictures = arrange([(patches, grid)], model.vision, num_windows=rows.reading_windows,
                               num_tokens=readings.pictures.token.shape[-1])
        except ValueError as error:
            raise CapacityError(f"its picture does not fit: {error} Raise rows.reading_windows") from error
        merged = tuple(side // model.vision.merge_size for side in grid)
        question = understanding_prompt(example.prompt, [math.prod(merged)], packer.encode, tokens)
        answer = [*packer.encode(example.answer), tokens.turn_end]
        self._require_room(question, answer)
        ids = np.asarray([[*question, *answer]], np.int32)
        position, _ = understanding_positions(ids, np.ones(ids.shape, bool), [merged], tokens.image_pad)

        for target, values in zip(jax.tree.leaves(readings.pictures), jax.tree.leaves(pictures), strict=True):
            target[slot] = values[0]
        readings.position[slot, :, : ids.shape[1]] = position[:, 0]
        self._place_reading(question, answer, example)


def _empty(packer: Blip3oPacker) -> Blip3oBatch:
    rows, model = packer.rows, packer.model
    slots, grid, vision = rows.samples_per_row, model.dit.grid, model.vision
    tokens = rows.reading_windows * vision.window_tokens**2
    readings, patches = rows.readings_per_row, tokens * vision.merge_size**2
    return Blip3oBatch(
        **empty_slots(packer, model.eva.image_size, grid**2),
        first_query=np.zeros(slots, np.int32),
        conditioned=np.zeros(slots, bool),
        uniform=np.zeros(slots, np.float32),
        features=np.zeros((slots, grid, grid, model.eva.width), FEATURES_DTYPE) if rows.stored_codes else None,
        readings=Readings(
            **empty_readings(packer),
            position=np.ones((readings, 3, rows.reading_capacity), np.int32),
            pictures=Pictures(
                patches=np.zeros((readings, patches, vision.patch_values), np.float32),
                position=np.zeros((readings, patches, 2), np.int32),
                real=np.zeros((readings, patches), bool),
                token=np.zeros((readings, tokens), np.int32),
            ),
        ),
    )
