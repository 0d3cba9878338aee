"""Batches of Janus-Pro; letters as in `families.slots`, V pixels along a side of a view."""

import dataclasses

import jax

from srum_jax.data.example import Array
from srum_jax.families.slots import SlotBatch, SlotReadings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Readings(SlotReadings):
    """With the pictures, prepared for the tower."""

    views: Array  # uint8 [B, R, V, V, 3]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class JanusBatch(SlotBatch):
    """Its tokens are prompts that end with the token that begins a picture, padded before."""

    length: Array  # int32 [B, S], tokens of each prompt; 0 in slots without a drawing
    codes: Array | None  # int32 [B, S, N]
