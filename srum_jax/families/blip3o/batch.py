"""A static-shape training batch of slots: pictures that are drawn, and pictures that are read.

B rows · S slots for drawing · T tokens of one · G features along a side of a picture · C their width
R slots for reading · L tokens of one · A predicted tokens of one · P slots of patches · V tokens of a picture
"""

import dataclasses

import jax
import numpy as np

from srum_jax.models.blip3o.patches import Pictures

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Readings:
    """Questions about one picture each, with their answers. Slots without one have sample -1 and length 0."""

    sample: Array  # int32 [B, R], number in the row
    ids: Array  # int32 [B, R, L], padded behind
    length: Array  # int32 [B, R]
    position: Array  # int32 [B, R, 3, L]: time, row, column
    pictures: Pictures  # [B, R, P, ...] and [B, R, V]
    answer_index: Array  # int32 [B, R, A], places whose next token is predicted
    answer_ids: Array  # int32 [B, R, A], the tokens that are
    answer_weights: Array  # float32 [B, R, A]; 0 for padding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blip3oBatch:
    """One training batch. Slots without a drawing have sample -1."""

    sample: Array  # int32 [B, S], number in the row
    ids: Array  # int32 [B, S, T]: prompt, [IMG], places of the queries, padding
    first_query: Array  # int32 [B, S], place of the first query
    conditioned: Array  # bool [B, S]; where not, the picture is drawn after nothing
    uniform: Array  # float32 [B, S] in [0, 1), what the time is made of
    pixels: Array  # uint8 [B, S, H, W, 3], cut out for the tower; H and W are 0 where features come instead
    features: Array | None  # float16 [B, S, G, G, C]
    image_columns: dict[str, Array]  # float32 [B, S G G] each, what the objective wants beside each feature
    readings: Readings
    text_columns: dict[str, Array]  # float32 [B, R A] each, the same beside each prediction
    num_samples: int = dataclasses.field(default=1, metadata={"static": True})  # that a row has room for
