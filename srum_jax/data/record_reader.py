"""From the bytes of one reward record to an example."""

import functools

from srum_jax.data.errors import CapacityError, ImageError, SchemaError
from srum_jax.data.example import Example, Picture
from srum_jax.data.schema import RewardRecord
from srum_jax.objectives.objective import RecordObjective
from srum_jax.rewards.reward_map import RewardMapError

# What a record can be wrong in; everything else is an error of the program and is not caught.
RECORD_ERRORS = (SchemaError, ImageError, RewardMapError, CapacityError)


def picture_of(record: RewardRecord) -> Picture:
    """The record's image, not decoded yet, and the code of it that lies beside."""
    return Picture(record.image_width, record.image_height, encoded=record.image_encoded, code=record.code)


def example_of(record: RewardRecord, objective: RecordObjective, *, with_prompt: bool) -> Example:
    """The record as a sample of drawing.

    Args:
      record: as stored.
      objective: computes the columns beside the picture's tokens from what was judged.
      with_prompt: whether the picture is drawn after its prompt, or after nothing.
    """
    return Example(
        prompt=record.prompt,
        picture=picture_of(record),
        image_columns=functools.partial(objective.columns_of, record),
        prompt_left_out=not with_prompt,
    )
