"""From the bytes of one reward record to one packed training sample (SRUM, section 3.2).

    text(prompt, dropped with probability text_dropout), then the image with a flow-matching loss and its reward map
"""

from typing import Protocol

import numpy as np

from srum_jax.data.errors import CapacityError, ImageError, SchemaError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.image_transform import ImageTransform, decode_image
from srum_jax.data.schema import RewardRecord
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, PackedSample, RandomDraws, TextItem, pack_sample
from srum_jax.families.bagel.stored_latents import StoredLatents
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.objectives.objective import Objective
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.reward_map import RewardMapError
from srum_jax.rewards.token_grid import Grid

# What a record can be wrong in; everything else is an error of the program and is not caught.
RECORD_ERRORS = (SchemaError, ImageError, RewardMapError, CapacityError)


class Tokenizer(Protocol):
    """What is needed of a tokenizer; those of Hugging Face have it. It must survive pickling."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it."""


def pixels_of(record: RewardRecord, transform: ImageTransform) -> np.ndarray:
    """The resized image of a record, uint8 [H, W, 3].

    Raises:
      ImageError: it cannot be decoded.
      SchemaError: it has not the size that the record says.
    """
    image = decode_image(record.image_encoded)
    if image.size != (record.image_width, record.image_height):
        raise SchemaError("image/width, image/height", "{} x {}, as decoded".format(*image.size),
                          f"{record.image_width} x {record.image_height}")
    return transform.resize(image)


class RecordReader:
    """Makes samples from stored records. Can be sent to another process.

    Args:
      model: sizes of the latent grid and the special tokens.
      tokenizer: see Tokenizer.
      transform: how images are resized.
      objective: which columns stand beside the latent tokens.
      text_dropout: probability that the prompt is left out.
      stored: takes the latents that records have; None: images are decoded and resized.
    """

    def __init__(
        self,
        model: BagelConfig,
        tokenizer: Tokenizer,
        transform: ImageTransform,
        objective: Objective,
        text_dropout: float,
        stored: StoredLatents | None = None,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.transform, self.objective = transform, objective
        self.dropout = Dropout(text=text_dropout)
        self.stored = stored

    def read(self, data: bytes, draws: RandomDraws) -> tuple[RewardRecord, PackedSample]:
        """The record and its sample.

        Raises:
          SchemaError, ImageError, RewardMapError, CapacityError: why the record cannot be used.
        """
        record = decode_record(data)
        moments = None if self.stored is None else self.stored.moments(record)
        pixels = pixels_of(record, self.transform) if self.stored is None else None
        width, height = self.transform.target_size(record.image_width, record.image_height)
        stride, side = self.model.latent_stride, self.model.max_latent_size
        grid = (height // stride, width // stride)
        if max(grid) > side and not self.model.interpolate_pos:
            raise CapacityError(f"its image has {grid[0]} x {grid[1]} latent tokens after the transform, the model's "
                                f"position table {side} x {side}; lower max_size")
        whole = Box(0, 0, record.image_width, record.image_height)
        ids = self.tokenizer.encode(record.prompt)
        if ids and not 0 <= min(ids) <= max(ids) < self.model.llm.vocab_size:
            raise CapacityError(f"its prompt has token id {max(ids)}, the model {self.model.llm.vocab_size} "
                                "embeddings; "
                                "the tokenizer belongs to another model")
        plan = (
            TextItem(ids=ids, droppable=True),
            LatentItem(
                pixels=pixels,
                grid=grid,
                position_ids=position_ids(*grid, side, self.model.interpolate_pos),
                loss=True,
                columns=self.objective.columns_of(record, Grid(*grid, whole, width, height)),
                moments=moments,
            ),
        )
        return record, pack_sample(plan, self.model.special_tokens, self.dropout, draws)
