"""A static-shape training batch of slots: pictures that are drawn, and pictures that are read.

B rows · S slots for drawing · T tokens of a prompt · N codes of a picture
R slots for reading · L tokens of one · A predicted tokens of one
"""

import dataclasses

import jax
import numpy as np

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Readings:
    """Questions about one picture each, with their answers. Slots without one have sample -1 and length 0."""

    sample: Array  # int32 [B, R], number in the row
    ids: Array  # int32 [B, R, L], padded behind
    length: Array  # int32 [B, R]
    views: Array  # uint8 [B, R, V, V, 3], prepared for the tower
    answer_index: Array  # int32 [B, R, A], places whose next token is predicted
    answer_ids: Array  # int32 [B, R, A], the tokens that are
    answer_weights: Array  # float32 [B, R, A]; 0 for padding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class JanusBatch:
    """One training batch. Slots without a drawing have sample -1 and length 0."""

    sample: Array  # int32 [B, S], number in the row
    ids: Array  # int32 [B, S, T], prompts that end with the token that begins a picture, padded before
    length: Array  # int32 [B, S], tokens of each prompt
    pixels: Array  # uint8 [B, S, H, W, 3], cut out for the picture tokenizer; H and W are 0 where codes come instead
    codes: Array | None  # int32 [B, S, N]
    image_columns: dict[str, Array]  # float32 [B, S N] each, what the objective wants beside each code
    readings: Readings
    text_columns: dict[str, Array]  # float32 [B, R A] each, the same beside each prediction
    num_samples: int = dataclasses.field(default=1, metadata={"static": True})  # that a row has room for
