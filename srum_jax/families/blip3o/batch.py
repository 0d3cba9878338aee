"""Batches of BLIP3o; letters as in `families.slots`.

G features along a side of a picture, G G of them · C their width · P slots of patches · V tokens of a picture
"""

import dataclasses

import jax

from srum_jax.data.example import Array
from srum_jax.families.slots import SlotBatch, SlotReadings
from srum_jax.models.blip3o.patches import Pictures


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Readings(SlotReadings):
    """With places and pictures."""

    position: Array  # int32 [B, R, 3, L]: time, row, column
    pictures: Pictures  # [B, R, P, ...] and [B, R, V]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blip3oBatch(SlotBatch):
    """Its tokens are prompt, [IMG], places of the queries, padding."""

    first_query: Array  # int32 [B, S], place of the first query
    conditioned: Array  # bool [B, S]; where not, the picture is drawn after nothing
    uniform: Array  # float32 [B, S] in [0, 1), what the time is made of
    features: Array | None  # float16 [B, S, G, G, C]
