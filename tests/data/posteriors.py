"""Made-up posteriors for made-up records."""

import dataclasses

import numpy as np

from srum_jax.data.schema import RewardRecord
from srum_jax.data.stored_code import POSTERIOR, StoredCode
from srum_jax.data.writer import write_records
from srum_jax.families.bagel.config import BagelRows
from srum_jax.models.bagel.config import BagelConfig
from tests.data.made_up import MODEL, made_up_record, settings

ENCODER = bytes(range(32))


def with_posterior(record: RewardRecord, rows: BagelRows, model: BagelConfig = MODEL) -> RewardRecord:
    """The record with random moments of the right size."""
    width, height = rows.transform.target_size(record.image_width, record.image_height)
    shape = (height // model.vae.downsample, width // model.vae.downsample, 2 * model.vae.z_channels)
    moments = np.random.default_rng(record.index).standard_normal(shape)
    code = StoredCode.of(POSTERIOR, moments, "float16", image=(height, width),
                         canvas=(rows.image_height, rows.image_width), encoder_sha256=ENCODER)
    return dataclasses.replace(record, code=code)


def write_with_posteriors(directory, num_records: int = 11, prefix: str = "image-", **changes) -> None:
    """Writes made-up records with posteriors for `settings`."""
    _, rows = settings(directory, **changes)
    records = (made_up_record(i, record_id=f"{prefix}{i}") for i in range(num_records))
    write_records(directory, (with_posterior(record, rows) for record in records), num_shards=3)
