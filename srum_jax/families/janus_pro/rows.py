"""Examples as rows of Janus-Pro: fixed slots of two kinds.

    drawing     the prompt in the layout of a request for a picture; the picture's codes are predicted behind it
    reading     a question about the picture, its answer to be predicted
"""

import dataclasses
import math

import numpy as np

from srum_jax.data.errors import CapacityError, SchemaError
from srum_jax.data.example import Example, Picture, RandomDraws, Tokenizer
from srum_jax.data.image_transform import to_rgb
from srum_jax.errors import check
from srum_jax.families.janus_pro.batch import JanusBatch, Readings
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.pictures import middle_square, view_to_draw, view_to_read
from srum_jax.models.janus_pro.prompts import answer_ids, generation_prompt, understanding_prompt, without_text
from srum_jax.objectives.columns import ColumnNames
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.token_grid import Grid

CODES = "codes"  # the kind of code that records hold
CODES_DTYPE = "int32"
_AGAIN = "make them with python -m tools.precompute_latents and the checkpoint of this run, or set rows.codes=images"


class JanusPacker:
    """Makes rows of Janus-Pro; see `data.example.Packer`.

    Args:
      rows: slots and capacities.
      model: whose tokens they are.
      tokenizer: of its prompts; None for rows that stay empty.
      columns: that the objective wants.
      encoder_sha256: checksum of the model's picture tokenizer, which stored codes must come from; None where it is not
        known, and not compared.

    Raises:
      ValueError: sizes that do not go with the model.
    """

    def __init__(
        self,
        rows: JanusRows,
        model: JanusConfig,
        tokenizer: Tokenizer | None,
        columns: ColumnNames,
        encoder_sha256: bytes | None = None,
    ):
        most = model.llm.max_position_embeddings
        check("rows.text_capacity", rows.text_capacity + model.vq.num_codes <= most,
              f"at most the {most} positions of the model less the {model.vq.num_codes} codes of a picture",
              rows.text_capacity)
        check("rows.reading_capacity", rows.reading_capacity <= most, f"at most the {most} positions of the model",
              rows.reading_capacity)
        self.rows, self.model, self.tokenizer, self.columns = rows, model, tokenizer, columns
        self.encoder_sha256 = encoder_sha256
        self.samples_per_row = rows.samples_per_row

    def empty_row(self) -> "JanusRow":
        """A new row."""
        return JanusRow(self)

    def check(self, picture: Picture) -> None:
        """See `Packer.check`."""
        if self.rows.stored_codes:
            self.codes(picture)

    def codes(self, picture: Picture) -> np.ndarray:
        """The stored codes of a picture, int32 [N]; not to be written to.

        Raises:
          SchemaError: there are none, or those of another size or picture tokenizer.
        """
        code, vq = picture.code, self.model.vq
        if code is None:
            raise SchemaError("code/values", f"stored codes ({_AGAIN})", "nothing")
        sides = ("image_height", "image_width", "canvas_height", "canvas_width")
        expected = {"kind": CODES, **dict.fromkeys(sides, vq.image_size), "shape": (vq.grid, vq.grid),
                    "dtype": CODES_DTYPE}
        for name, value in expected.items():
            if getattr(code, name) != value:
                raise SchemaError(f"code/{name}", f"{value}, by the model of this run ({_AGAIN})",
                                  str(getattr(code, name)))
        if self.encoder_sha256 is not None and code.encoder_sha256 != self.encoder_sha256:
            raise SchemaError("code/encoder_sha256",
                              f"{self.encoder_sha256.hex()}, the picture tokenizer of model.checkpoint ({_AGAIN}; "
                              "weights that were rounded to another precision are other weights)",
                              code.encoder_sha256.hex())
        values = code.array.reshape(-1)
        if not 0 <= values.min() <= values.max() < vq.codebook_size:
            raise SchemaError("code/values", f"numbers below the {vq.codebook_size} codes of the model",
                              f"{values.min()} to {values.max()}")
        return values

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        """Tokens of a text, of which none acts as a control token unless that is asked for.

        Raises:
          CapacityError: the tokenizer is another model's.
        """
        ids = self.tokenizer.encode(text, control_tokens=control_tokens)
        if ids and not 0 <= min(ids) <= max(ids) < self.model.llm.vocab_size:
            raise CapacityError(f"its text has token id {max(ids)}, the model {self.model.llm.vocab_size} "
                                "embeddings; the tokenizer belongs to another model")
        special = set(dataclasses.astuple(self.model.special_tokens)) & set(ids)
        if special and not control_tokens:
            raise CapacityError(f"its text has the control token {min(special)}, which this tokenizer cannot read as "
                                "text; leave the record out")
        return ids


class JanusRow:
    """A row while it is filled; see `data.example.Row`. Padding: samples -1, everything else 0 or the pad token."""

    def __init__(self, packer: JanusPacker):
        self._packer = packer
        self._num_samples = self._drawn = self._read = 0
        self._batch = _empty(packer)

    def add(self, example: Example, draws: RandomDraws) -> None:
        """See `Row.add`."""
        del draws  # nothing here is random
        if example.kind == "drawing":
            self._add_drawing(example)
        else:
            self._add_reading(example)
        self._num_samples += 1

    def finish(self) -> JanusBatch:
        """The row, without a leading batch axis."""
        return self._batch

    def _add_drawing(self, example: Example) -> None:
        packer, batch, slot = self._packer, self._batch, self._drawn
        rows, model, picture = packer.rows, packer.model, example.picture
        _require_slot(slot, rows.samples_per_row, "samples_per_row")
        if example.reference is not None:
            raise CapacityError("it has a reference picture of its own, for which rows of Janus-Pro have no room")
        prompt = generation_prompt(example.prompt, packer.encode, model.special_tokens)
        if example.prompt_left_out:
            prompt = without_text(prompt, model.special_tokens)
        _require_room(len(prompt), rows.text_capacity, "text_capacity", "tokens of its prompt")
        size, side = model.vq.image_size, model.vq.grid
        grid = Grid(side, side, Box(*middle_square(picture.width, picture.height)), size, size)
        columns = {name: np.asarray(values, np.float32).ravel()
                   for name, values in example.image_columns(grid).items()}
        stored = rows.stored_codes
        values = packer.codes(picture) if stored else view_to_draw(to_rgb(picture.image()), size)

        # From here on nothing is refused.
        (batch.codes if stored else batch.pixels)[slot] = values
        batch.sample[slot], batch.length[slot] = self._num_samples, len(prompt)
        batch.ids[slot, rows.text_capacity - len(prompt) :] = prompt
        cells = model.vq.num_codes
        for name, column in columns.items():
            batch.image_columns[name][slot * cells : (slot + 1) * cells] = column
        self._drawn += 1

    def _add_reading(self, example: Example) -> None:
        packer, rows, slot = self._packer, self._packer.rows, self._read
        model, tokens, readings = packer.model, packer.model.special_tokens, self._batch.readings
        _require_slot(slot, rows.readings_per_row, "readings_per_row")
        question = understanding_prompt(example.prompt, 1, model.vision.num_tokens, packer.encode, tokens)
        answer = answer_ids(example.answer, packer.encode, tokens)
        length, predicted = len(question) + len(answer), len(answer)
        _require_room(length, rows.reading_capacity, "reading_capacity", "tokens to be read")
        _require_room(predicted, rows.answer_capacity, "answer_capacity", "predicted tokens")
        view = view_to_read(to_rgb(example.picture.image()), model.vision.image_size)

        readings.views[slot] = view
        readings.sample[slot], readings.length[slot] = self._num_samples, length
        readings.ids[slot, :length] = [*question, *answer]
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


def _require_room(need: int, room: int, field: str, what: str) -> None:
    if need > room:
        raise CapacityError(f"needs {need} {what}, its slot has {room}; raise rows.{field}")


def _empty(packer: JanusPacker) -> JanusBatch:
    rows, model, columns = packer.rows, packer.model, packer.columns
    slots, cells, pad = rows.samples_per_row, model.vq.num_codes, model.special_tokens.pad
    side, view = 0 if rows.stored_codes else model.vq.image_size, model.vision.image_size
    reading, length, answer = rows.readings_per_row, rows.reading_capacity, rows.answer_capacity
    return JanusBatch(
        sample=np.full(slots, -1, np.int32),
        ids=np.full((slots, rows.text_capacity), pad, np.int32),
        length=np.zeros(slots, np.int32),
        pixels=np.zeros((slots, side, side, 3), np.uint8),
        codes=np.zeros((slots, cells), np.int32) if rows.stored_codes else None,
        image_columns={name: np.zeros(slots * cells, np.float32) for name in columns.image},
        readings=Readings(
            sample=np.full(reading, -1, np.int32),
            ids=np.full((reading, length), pad, np.int32),
            length=np.zeros(reading, np.int32),
            views=np.zeros((reading, view, view, 3), np.uint8),
            answer_index=np.zeros((reading, answer), np.int32),
            answer_ids=np.zeros((reading, answer), np.int32),
            answer_weights=np.zeros((reading, answer), np.float32),
        ),
        text_columns={name: np.zeros(reading * answer, np.float32) for name in columns.text},
        num_samples=slots + reading,
    )
