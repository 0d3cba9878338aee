"""Small made-up records, a row for the tiny model and a tokenizer that needs no files."""

import dataclasses
import io

import numpy as np
from PIL import Image

from srum_jax.data.config import DataConfig
from srum_jax.data.pipeline import HostBatchIterator
from srum_jax.data.schema import GlobalStatus, Region, RewardRecord
from srum_jax.data.writer import record_of_image, write_records
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.rows import BagelPacker
from srum_jax.models.bagel.config import BagelConfig, SpecialTokens
from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.objective import Objective
from srum_jax.rewards.boxes import Box
from tests.models.packs import small_config

# The tiny model, with a token for every letter.
MODEL = small_config(vit=None, llm=dataclasses.replace(small_config().llm, vocab_size=160),
                     special_tokens=SpecialTokens(150, 151, 152, 153), max_latent_size=16)


OBJECTIVE = RewardWeighted()


class LetterTokenizer:
    """One id a letter."""

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        return [ord(letter) % 128 for letter in text]


def image_bytes(seed: int, width: int = 24, height: int = 20, mode: str = "RGB", format: str = "png") -> bytes:
    channels = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode).save(buffer, format)
    return buffer.getvalue()


def made_up_record(index: int, **changes) -> RewardRecord:
    fields = {
        "record_id": f"image-{index}",
        "index": index,
        "prompt": f"a cup {index}",
        "regions": (Region(Box(0, 0, 12, 10), 0.5, object="cup"), Region(Box(4, 4, 24, 20), -0.25))[: index % 3],
        "global_status": GlobalStatus.OK,
        "global_score": 0.5,
    } | changes
    encoded = fields.pop("encoded", None) or image_bytes(index)
    return record_of_image(encoded, **fields)


def write_made_up(directory, num_records: int = 11, num_shards: int = 3):
    return write_records(directory, (made_up_record(i) for i in range(num_records)), num_shards=num_shards)


def settings(directory, **changes) -> tuple[DataConfig, BagelRows]:
    """Of a run on small made-up records; `changes` of both by the names of their fields."""
    data = dict(records=str(directory), rows_per_batch=2)
    rows = dict(samples_per_row=2, text_capacity=40, latent_capacity=64, images_per_row=2, image_height=24,
                image_width=24, max_size=24, min_size=8, stride=4)
    of_rows = {field.name for field in dataclasses.fields(BagelRows)}
    for name, value in changes.items():
        (rows if name in of_rows else data)[name] = value
    return DataConfig(**data), BagelRows(**rows)


def host_batches(directory, model: BagelConfig = MODEL, *, seed: int = 5, process_index: int = 0,
                 process_count: int = 1, objective: Objective = OBJECTIVE, encoder_sha256: bytes | None = None,
                 **changes):
    """Batches of one process of a run on made-up records; `changes` as of `settings`."""
    data, rows = settings(directory, **changes)
    packer = BagelPacker(rows, model, LetterTokenizer(), objective.columns, encoder_sha256)
    return HostBatchIterator(data, packer, objective, seed=seed, process_index=process_index,
                             process_count=process_count)
