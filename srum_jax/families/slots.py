"""Rows and batches of fixed slots: some for pictures that are drawn, some for pictures that are read.

B rows · S slots for drawing · T tokens of one · N image tokens of a picture
R slots for reading · L tokens of one · A predicted tokens of one
"""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import Array, Example, RandomDraws
from srum_jax.families.packer import ModelPacker
from srum_jax.objectives.token_scores import TokenMasks
from srum_jax.rewards.token_grid import Grid


@dataclasses.dataclass(frozen=True)
class SlotReadings:
    """Questions about one picture each, with their answers. Slots without one have sample -1 and length 0."""

    sample: Array  # int32 [B, R], number in the row
    ids: Array  # int32 [B, R, L], padded behind
    length: Array  # int32 [B, R]
    answer_index: Array  # int32 [B, R, A], places whose next token is predicted
    answer_ids: Array  # int32 [B, R, A], the tokens that are
    answer_weights: Array  # float32 [B, R, A]; 0 for padding

    @property
    def real(self) -> jax.Array:
        """Bool [B, R, L]: tokens of conversations."""
        return jnp.arange(self.ids.shape[2])[None, None] < self.length[..., None]


@dataclasses.dataclass(frozen=True)
class SlotBatch:
    """One training batch. Slots without a drawing have sample -1."""

    sample: Array  # int32 [B, S], number in the row
    ids: Array  # int32 [B, S, T]
    pixels: Array  # uint8 [B, S, H, W, 3], cut out for the encoder; H and W are 0 where stored codes come instead
    image_columns: dict[str, Array]  # float32 [B, S N] each, what the objective wants beside each image token
    text_columns: dict[str, Array]  # float32 [B, R A] each, the same beside each prediction
    readings: Any  # `SlotReadings`
    # Samples that a row has room for.
    num_samples: int = dataclasses.field(default=1, metadata={"static": True}, kw_only=True)


class SlotRow(abc.ABC):
    """A row while it is filled; see `data.example.Row`. Padding: samples -1, everything else 0 or the pad token."""

    def __init__(self, packer: ModelPacker, batch: Any):
        """Starts from an empty row; its field for stored codes is named as `code_field` of the rows says."""
        self._packer, self._batch = packer, batch
        self._num_samples = self._drawn = self._read = 0

    def add(self, example: Example, draws: RandomDraws) -> None:
        """See `Row.add`."""
        rows = self._packer.rows
        if example.kind == "drawing":
            _require_slot(self._drawn, rows.samples_per_row, "samples_per_row")
            self._add_drawing(example, draws)
            self._drawn += 1
        else:
            _require_slot(self._read, rows.readings_per_row, "readings_per_row")
            self._add_reading(example)
            self._read += 1
        self._num_samples += 1

    def finish(self) -> Any:
        """The row, without a leading batch axis."""
        return self._batch

    @abc.abstractmethod
    def _add_drawing(self, example: Example, draws: RandomDraws) -> None:
        """Fills slot `_drawn`; refuses before anything is written."""

    @abc.abstractmethod
    def _add_reading(self, example: Example) -> None:
        """Fills slot `_read`; refuses before anything is written."""

    def _place_drawing(self, values: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        """Writes a picture, as pixels or as its stored code, and what the objective wants beside it."""
        rows, batch, slot = self._packer.rows, self._batch, self._drawn
        getattr(batch, rows.code_field if rows.stored_codes else "pixels")[slot] = values
        batch.sample[slot] = self._num_samples
        for name, column in columns.items():
            batch.image_columns[name][slot * len(column) : (slot + 1) * len(column)] = column

    def _place_reading(self, question: list[int], answer: list[int], example: Example) -> None:
        """Writes the tokens of a conversation, those of its answer to be predicted."""
        readings, slot, length, predicted = self._batch.readings, self._read, len(question) + len(answer), len(answer)
        readings.sample[slot], readings.length[slot] = self._num_samples, length
        readings.ids[slot, :length] = [*question, *answer]
        readings.answer_index[slot, :predicted] = np.arange(len(question) - 1, length - 1)
        readings.answer_ids[slot, :predicted] = answer
        readings.answer_weights[slot, :predicted] = 1 / math.sqrt(predicted)
        for name, value in example.text_columns.items():
            first = slot * self._packer.rows.answer_capacity
            self._batch.text_columns[name][first : first + predicted] = value

    def _require_room(self, question: list[int], answer: list[int]) -> None:
        require_room(len(question) + len(answer), self._packer.rows, "reading_capacity", "tokens to be read")
        require_room(len(answer), self._packer.rows, "answer_capacity", "predicted tokens")


def require_room(need: int, rows: Any, field: str, what: str) -> None:
    """Refuses what is more than a slot holds."""
    if need > getattr(rows, field):
        raise CapacityError(f"needs {need} {what}, its slot has {getattr(rows, field)}; raise rows.{field}")


def flat_columns(example: Example, grid: Grid) -> dict[str, np.ndarray]:
    """What the objective wants beside each image token, float32 [cells] each."""
    return {name: np.asarray(values, np.float32).ravel() for name, values in example.image_columns(grid).items()}


def empty_slots(packer: ModelPacker, side: int, cells: int) -> dict[str, Any]:
    """The fields that batches of all families of slots have, but for `readings`, of a row without examples.

    Args:
      packer: of the row.
      side: pixels of a picture that is drawn.
      cells: image tokens of it.
    """
    rows, columns = packer.rows, packer.columns
    slots, side = rows.samples_per_row, 0 if rows.stored_codes else side
    return {
        "sample": np.full(slots, -1, np.int32),
        "ids": np.full((slots, rows.text_capacity), packer.model.special_tokens.pad, np.int32),
        "pixels": np.zeros((slots, side, side, 3), np.uint8),
        "image_columns": {name: np.zeros(slots * cells, np.float32) for name in columns.image},
        "text_columns": {name: np.zeros(rows.readings_per_row * rows.answer_capacity, np.float32)
                         for name in columns.text},
        "num_samples": slots + rows.readings_per_row,
    }


def empty_readings(packer: ModelPacker) -> dict[str, np.ndarray]:
    """The same of `readings`, but for the pictures."""
    rows, slots = packer.rows, packer.rows.readings_per_row
    return {
        "sample": np.full(slots, -1, np.int32),
        "ids": np.full((slots, rows.reading_capacity), packer.model.special_tokens.pad, np.int32),
        "length": np.zeros(slots, np.int32),
        "answer_index": np.zeros((slots, rows.answer_capacity), np.int32),
        "answer_ids": np.zeros((slots, rows.answer_capacity), np.int32),
        "answer_weights": np.zeros((slots, rows.answer_capacity), np.float32),
    }


def _require_slot(taken: int, slots: int, field: str) -> None:
    if taken == slots:
        raise CapacityError(f"needs a slot, but all {slots} of its row are taken; raise rows.{field}")


def slot_masks(batch: SlotBatch, real: jax.Array, image: str, cells: int) -> TokenMasks:
    """Every image token of a slot that is taken, and every token of an answer.

    Args:
      batch: of a step.
      real: bool [B, S, T], tokens of slots for drawing.
      image: what the image tokens are called.
      cells: how many a picture has, N.
    """
    readings = batch.readings
    sample = jnp.repeat(batch.sample, cells, axis=1)
    weights = flat(readings.answer_weights)
    text_sample = jnp.repeat(readings.sample, readings.answer_ids.shape[2], axis=1)
    return TokenMasks(
        image=sample >= 0,
        image_sample=sample,
        text=weights,
        text_sample=jnp.where(weights > 0, text_sample, -1),
        streams={"text": flat(real), image: sample >= 0, "reading": flat(readings.real)},
        num_samples=batch.num_samples,
    )


def joined(x: jax.Array) -> jax.Array:
    """All slots as rows: [B, S, ...] to [B S, ...]."""
    return x.reshape(-1, *x.shape[2:])


def flat(x: jax.Array) -> jax.Array:
    """[B, S, T] to [B, S T]."""
    return x.reshape(len(x), -1)
