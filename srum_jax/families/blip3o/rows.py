"""Examples as rows of BLIP3o: fixed slots of two kinds.

    drawing     the prompt in the layout of a request for a picture, [IMG], queries; the picture's features are learnt
    reading     a conversation about the picture, its answer to be predicted
"""

import dataclasses
import math

import jax
import numpy as np

from srum_jax.data.errors import CapacityError, SchemaError
from srum_jax.data.example import Example, Picture, RandomDraws, Tokenizer
from srum_jax.errors import check
from srum_jax.families.blip3o.batch import Blip3oBatch, Readings
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.request_reader import check_control_tokens
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.patches import Pictures, arrange, eva_crop, flat_patches, middle_square
from srum_jax.models.blip3o.positions import understanding_positions
from srum_jax.models.blip3o.prompts import generation_prompt, understanding_prompt, with_queries
from srum_jax.objectives.columns import ColumnNames
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.token_grid import Grid

FEATURES = "features"  # the kind of code that records hold
FEATURES_DTYPE = "float16"
_AGAIN = ("make them with python -m tools.precompute_latents and the checkpoint of this run, or set "
          "rows.features=images")


class Blip3oPacker:
    """Makes rows of BLIP3o; see `data.example.Packer`.

    Args:
      rows: slots and capacities.
      model: whose tokens they are.
      tokenizer: of its prompts; None for rows that stay empty.
      columns: that the objective wants.
      encoder_sha256: checksum of the model's EVA-CLIP tower, which stored features must come from; None where it is
        not known, and not compared.

    Raises:
      ValueError: sizes that do not go with the model.
      BadInput: the tokenizer is that of another model.
    """

    def __init__(
        self,
        rows: Blip3oRows,
        model: Blip3oConfig,
        tokenizer: Tokenizer | None,
        columns: ColumnNames,
        encoder_sha256: bytes | None = None,
    ):
        for field in ("text_capacity", "reading_capacity"):
            most = model.llm.max_position_embeddings
            check(f"rows.{field}", getattr(rows, field) <= most, f"at most the {most} positions of the model",
                  getattr(rows, field))
        check("rows.text_capacity", rows.text_capacity > model.num_queries,
              f"more than the {model.num_queries} queries of the model", rows.text_capacity)
        if tokenizer is not None:
            check_control_tokens(tokenizer, model.special_tokens)
        self.rows, self.model, self.tokenizer, self.columns = rows, model, tokenizer, columns
        self.encoder_sha256 = encoder_sha256
        self.samples_per_row = rows.samples_per_row

    def empty_row(self) -> "Blip3oRow":
        """A new row."""
        return Blip3oRow(self)

    def check(self, picture: Picture) -> None:
        """See `Packer.check`."""
        if self.rows.stored_codes:
            self.features(picture)

    def features(self, picture: Picture) -> np.ndarray:
        """The stored features of a picture, float16 [G, G, C]; not to be written to.

        Raises:
          SchemaError: there are none, or those of another size or tower.
        """
        code, eva = picture.code, self.model.eva
        if code is None:
            raise SchemaError("code/values", f"stored features ({_AGAIN})", "nothing")
        sides = ("image_height", "image_width", "canvas_height", "canvas_width")
        expected = {"kind": FEATURES, **dict.fromkeys(sides, eva.image_size),
                    "shape": (eva.pooled_grid, eva.pooled_grid, eva.width), "dtype": FEATURES_DTYPE}
        for name, value in expected.items():
            if getattr(code, name) != value:
                raise SchemaError(f"code/{name}", f"{value}, by the model of this run ({_AGAIN})",
                                  str(getattr(code, name)))
        if self.encoder_sha256 is not None and code.encoder_sha256 != self.encoder_sha256:
            raise SchemaError("code/encoder_sha256",
                              f"{self.encoder_sha256.hex()}, the EVA-CLIP tower of model.checkpoint ({_AGAIN}; weights "
                              "that were rounded to another precision are other weights)", code.encoder_sha256.hex())
        return code.array

    def ids(self, text: str) -> list[int]:
        """Tokens of a text, none of which acts as a control token.

        Raises:
          CapacityError: the tokenizer is another model's.
        """
        ids = self.tokenizer.encode(text)
        if ids and not 0 <= min(ids) <= max(ids) < self.model.llm.vocab_size:
            raise CapacityError(f"its text has token id {max(ids)}, the model {self.model.llm.vocab_size} "
                                "embeddings; the tokenizer belongs to another model")
        if special := set(dataclasses.astuple(self.model.special_tokens)) & set(ids):
            raise CapacityError(f"its text has the control token {min(special)}, which this tokenizer cannot read as "
                                "text; leave the record out")
        return ids


class Blip3oRow:
    """A row while it is filled; see `data.example.Row`. Padding: samples -1, everything else 0 or the pad token."""

    def __init__(self, packer: Blip3oPacker):
        self._packer = packer
        self._num_samples = self._drawn = self._read = 0
        self._batch = _empty(packer)

    def add(self, example: Example, draws: RandomDraws) -> None:
        """See `Row.add`."""
        if example.kind == "drawing":
            self._add_drawing(example, draws)
        else:
            self._add_reading(example)
        self._num_samples += 1

    def finish(self) -> Blip3oBatch:
        """The row, without a leading batch axis."""
        return self._batch

    def _add_drawing(self, example: Example, draws: RandomDraws) -> None:
        packer, batch, slot = self._packer, self._batch, self._drawn
        rows, model, picture = packer.rows, packer.model, example.picture
        _require_slot(slot, rows.samples_per_row, "samples_per_row")
        if example.reference is not None:
            raise CapacityError("it has a reference picture of its own, for which rows of BLIP3o have no room")
        text = [] if example.prompt_left_out else generation_prompt(
            example.prompt, packer.ids, model.special_tokens, rows.assistant_turn)
        try:
            prompt = with_queries([text], model, rows.text_capacity)
        except ValueError as error:
            raise CapacityError(f"its prompt does not fit: {error} Raise rows.text_capacity") from error
        size = model.eva.image_size
        left, top, side = middle_square(picture.width, picture.height)
        grid = Grid(model.dit.grid, model.dit.grid, Box(left, top, left + side, top + side), size, size)
        columns = {name: np.asarray(values, np.float32).ravel()
                   for name, values in example.image_columns(grid).items()}
        stored = rows.stored_codes
        values = packer.features(picture) if stored else eva_crop(picture.image(), size)

        # From here on nothing is refused.
        (batch.features if stored else batch.pixels)[slot] = values
        batch.sample[slot] = self._num_samples
        batch.ids[slot], batch.first_query[slot] = prompt.ids[0], prompt.first_query[0]
        batch.conditioned[slot] = not example.prompt_left_out
        batch.uniform[slot] = draws.random()
        cells = model.dit.grid**2
        for name, column in columns.items():
            batch.image_columns[name][slot * cells : (slot + 1) * cells] = column
        self._drawn += 1

    def _add_reading(self, example: Example) -> None:
        packer, rows, slot = self._packer, self._packer.rows, self._read
        model, tokens, readings = packer.model, packer.model.special_tokens, self._batch.readings
        _require_slot(slot, rows.readings_per_row, "readings_per_row")
        patches, grid = flat_patches(example.picture.image(), model.vision)
        try:
            pictures = arrange([(patches, grid)], model.vision, num_windows=rows.reading_windows,
                               num_tokens=readings.pictures.token.shape[-1])
        except ValueError as error:
            raise CapacityError(f"its picture does not fit: {error} Raise rows.reading_windows") from error
        merged = tuple(side // model.vision.merge_size for side in grid)
        question = understanding_prompt(example.prompt, [math.prod(merged)], packer.ids, tokens)
        answer = [*packer.ids(example.answer), tokens.turn_end]
        for need, field, what in ((len(question) + len(answer), "reading_capacity", "tokens to be read"),
                                  (len(answer), "answer_capacity", "predicted tokens")):
            if need > getattr(rows, field):
                raise CapacityError(f"needs {need} {what}, its slot has {getattr(rows, field)}; raise rows.{field}")
        ids = np.asarray([[*question, *answer]], np.int32)
        length, predicted = ids.shape[1], len(answer)
        position, _ = understanding_positions(ids, np.ones(ids.shape, bool), [merged], tokens.image_pad)

        for target, values in zip(jax.tree.leaves(readings.pictures), jax.tree.leaves(pictures), strict=True):
            target[slot] = values[0]
        readings.sample[slot], readings.length[slot] = self._num_samples, length
        readings.ids[slot, :length], readings.position[slot, :, :length] = ids[0], position[:, 0]
        readings.answer_index[slot, :predicted] = np.arange(len(question) - 1, length - 1)
        readings.answer_ids[slot, :predicted] = answer
        readings.answer_weights[slot, :predicted] = 1 / math.sqrt(predicted)
        for name, value in example.text_columns.items():
            first = slot * rows.answer_capacity
            self._batch.text_columns[name][first : first + predicted] = value
        self._read += 1


def _require_slot(taken: int, slots: int, field: str) -> None:
    if taken == slots:
        raise CapacityError(f"needs a slot, but all {slots} of its row are taken; raise rows.{field}")


def _empty(packer: Blip3oPacker) -> Blip3oBatch:
    rows, model, columns = packer.rows, packer.model, packer.columns
    slots, size, grid, width = rows.samples_per_row, model.eva.image_size, model.dit.grid, model.eva.width
    side = 0 if rows.stored_codes else size
    return Blip3oBatch(
        sample=np.full(slots, -1, np.int32),
        ids=np.full((slots, rows.text_capacity), model.special_tokens.pad, np.int32),
        first_query=np.zeros(slots, np.int32),
        conditioned=np.zeros(slots, bool),
        uniform=np.zeros(slots, np.float32),
        pixels=np.zeros((slots, side, side, 3), np.uint8),
        features=np.zeros((slots, grid, grid, width), FEATURES_DTYPE) if rows.stored_codes else None,
        image_columns={name: np.zeros(slots * grid * grid, np.float32) for name in columns.image},
        readings=_empty_readings(rows, model),
        text_columns={name: np.zeros(rows.readings_per_row * rows.answer_capacity, np.float32)
                      for name in columns.text},
        num_samples=slots + rows.readings_per_row,
    )


def _empty_readings(rows: Blip3oRows, model: Blip3oConfig) -> Readings:
    slots, vision = rows.readings_per_row, model.vision
    tokens = rows.reading_windows * vision.window_tokens**2
    patches = tokens * vision.merge_size**2
    return Readings(
        sample=np.full(slots, -1, np.int32),
        ids=np.full((slots, rows.reading_capacity), model.special_tokens.pad, np.int32),
        length=np.zeros(slots, np.int32),
        position=np.ones((slots, 3, rows.reading_capacity), np.int32),
        pictures=Pictures(
            patches=np.zeros((slots, patches, vision.patch_values), np.float32),
            position=np.zeros((slots, patches, 2), np.int32),
            real=np.zeros((slots, patches), bool),
            token=np.zeros((slots, tokens), np.int32),
        ),
        answer_index=np.zeros((slots, rows.answer_capacity), np.int32),
        answer_ids=np.zeros((slots, rows.answer_capacity), np.int32),
        answer_weights=np.zeros((slots, rows.answer_capacity), np.float32),
    )
