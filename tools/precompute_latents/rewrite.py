"""All records of a set once more, in the same shards and the same order, with their posteriors."""

import concurrent.futures
import dataclasses
import heapq
import itertools
import os
from collections.abc import Iterator

import numpy as np
from etils import epath
from tqdm import tqdm

import srum_jax
from srum_jax.data.errors import CapacityError, DataError, ImageError, SchemaError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.image_transform import ImageTransform
from srum_jax.data.posterior import posterior_of_moments
from srum_jax.data.record_reader import pixels_of
from srum_jax.data.records_source import RecordsSource, read_sidecars
from srum_jax.data.schema import RewardRecord
from srum_jax.data.tfrecord import TFRecordFile
from srum_jax.data.writer import Manifest, RecordWriter
from tools.precompute_latents.encoder import Encoding, PosteriorEncoder


@dataclasses.dataclass(frozen=True)
class Placed:
    """A record and where it was read."""

    record: RewardRecord
    file: str
    number: int

    def error(self, reason: Exception) -> DataError:
        """What is wrong with it."""
        return DataError(self.file, self.number, str(reason))


def rewrite(
    source: RecordsSource,
    out: epath.PathLike,
    encoder: PosteriorEncoder,
    transform: ImageTransform,
    *,
    dtype: str,
    num_threads: int,
) -> Manifest:
    """Writes the records of a set to a new directory; posteriors that they have are replaced.

    Args:
      source: the set.
      out: where to write; it must not hold records.
      encoder: computes the posteriors.
      transform: how images are resized.
      dtype: of the encoder, for the provenance.
      num_threads: that decode and resize images.

    Raises:
      DataError: `out` holds records already, or a record cannot be used; nothing is left that would load.
      WriteError: a file cannot be written.
    """
    manifest = source.manifest
    latents = {"encoder_sha256": encoder.sha256.hex(), "dtype": dtype, "transform": dataclasses.asdict(transform),
               "canvas": list(encoder.canvas), "records_sha256": source.fingerprint,
               "package_version": srum_jax.__version__}
    with RecordWriter(
        out, name=manifest.name, num_shards=manifest.num_shards,
        provenance={**(manifest.provenance or {}), "latents": latents},
        settings={"records_settings_sha256": manifest.settings_sha256, "latents": latents},
    ) as writer:
        for number, sidecar in enumerate(read_sidecars(source.directory, manifest)):
            for reason, count in sidecar.get("num_rejects", {}).items():
                for _ in range(count):
                    writer.reject(number, reason)  # left out before: the manifest goes on accounting for them
        bar = tqdm(_with_posteriors(source, encoder, transform, num_threads), total=len(source), unit="record",
                   disable=None)
        for placed in bar:
            try:
                writer.write(placed.record)
            except (SchemaError, ImageError) as error:
                raise placed.error(error) from error
        return writer.close(num_prompts=manifest.counts.get("prompts"))


def records_in_order(source: RecordsSource) -> Iterator[Placed]:
    """All records in the order in which they were written, by index and candidate. Holds one record of each shard.

    Raises:
      DataError: a record is damaged.
    """
    shards = (_records_of(shard) for shard in source.shards)
    return heapq.merge(*shards, key=lambda placed: (placed.record.index, placed.record.candidate))


def _records_of(shard: TFRecordFile) -> Iterator[Placed]:
    for number in range(len(shard)):
        try:
            record = decode_record(shard[number])
        except SchemaError as error:
            raise DataError(os.fspath(shard.name), number, str(error)) from error
        yield Placed(record, shard.name, number)


def _with_posteriors(
    source: RecordsSource, encoder: PosteriorEncoder, transform: ImageTransform, num_threads: int
) -> Iterator[Placed]:
    def pixels(placed: Placed) -> np.ndarray:
        try:
            image = pixels_of(placed.record, transform)
            encoder.check(image)
        except (SchemaError, ImageError, CapacityError) as error:
            raise placed.error(error) from error
        return image

    records = records_in_order(source)
    waiting: tuple[tuple[Placed, ...], Encoding] | None = None
    with concurrent.futures.ThreadPoolExecutor(num_threads) as threads:
        while batch := tuple(itertools.islice(records, encoder.batch_size)):
            encoding = encoder.start(list(threads.map(pixels, batch)))
            if waiting is not None:  # while the devices work on this batch, the one before is written
                yield from _finished(*waiting, encoder)
            waiting = (batch, encoding)
    if waiting is not None:
        yield from _finished(*waiting, encoder)


def _finished(batch: tuple[Placed, ...], encoding: Encoding, encoder: PosteriorEncoder) -> Iterator[Placed]:
    for placed, moments in zip(batch, encoding.result(), strict=True):
        posterior = posterior_of_moments(moments, canvas=encoder.canvas, downsample=encoder.config.vae.downsample,
                                         encoder_sha256=encoder.sha256)
        yield dataclasses.replace(placed, record=dataclasses.replace(placed.record, posterior=posterior))
