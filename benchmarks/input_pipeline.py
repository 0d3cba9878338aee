"""Samples per second of the input pipeline, on made-up records.

  python -m benchmarks.input_pipeline
  python -m benchmarks.input_pipeline --size 1024 --format jpeg --workers 0,1,2,4 --seconds 20

Images are smooth gradients with noise, so that their files are about as large as those of generated pictures. Every
figure is measured in the run that prints it; workers are worth it when decoding is heavy and cores are free.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from srum_jax.data.pipeline import DataConfig, make_iterator
from srum_jax.data.schema import GlobalStatus, Region, RewardRecord
from srum_jax.data.writer import record_of_image, write_records
from srum_jax.models.bagel.config import AutoencoderConfig, BagelConfig, LanguageConfig, SpecialTokens
from srum_jax.rewards.boxes import Box

_MODEL = BagelConfig(  # only its token sizes matter here
    llm=LanguageConfig(152064, 3584, 18944, 28, 28, 4, 1e-6, 1e6, 32768), vit=None, vae=AutoencoderConfig(),
    special_tokens=SpecialTokens())


class _LetterTokenizer:
    """One id a letter: the cost of a real tokenizer is small beside that of an image."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return [ord(letter) for letter in text]


def made_up_records(count: int, size: int, image_format: str) -> Iterator[RewardRecord]:
    """Records with square images of `size` pixels and three boxes."""
    grid = np.linspace(0, 1, size)
    for index in range(count):
        draws = np.random.default_rng(index)
        a, b, c = draws.uniform(0.2, 1, (3, 3))
        picture = 255 * (a * grid[:, None, None] + b * grid[None, :, None] + c) / 3
        picture = np.clip(picture + draws.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, image_format, **({"quality": 95} if image_format == "jpeg" else {}))
        corners = [size // 8 * k for k in range(3)]
        boxes = [Box(corner, corner, size // 2 + corner, size // 2 + corner) for corner in corners]
        yield record_of_image(
            buffer.getvalue(), record_id=f"image-{index}", index=index, prompt="a red circle left of a blue square",
            regions=tuple(Region(box, score) for box, score in zip(boxes, (0.95, 0.5, -0.5), strict=True)),
            global_status=GlobalStatus.OK, global_score=0.8)


def measure(records: str, size: int, num_workers: int, rows_per_batch: int, seconds: float) -> float:
    """Samples per second, after the first two batches."""
    data = DataConfig(records=records, rows_per_batch=rows_per_batch, image_height=size, image_width=size,
                      max_size=size, min_size=min(512, size), latent_capacity=2 * (size // 16) ** 2,
                      num_workers=num_workers)
    batches = make_iterator(data, _MODEL, _LetterTokenizer(), seed=0, process_index=0, process_count=1)
    for _ in range(2):
        next(batches)
    start, num_samples = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        num_samples += sum(map(len, next(batches).record_ids))
    rate = num_samples / (time.perf_counter() - start)
    batches.close()
    return rate


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input_pipeline", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="pixels a side, a multiple of 16 (default: %(default)s)")
    parser.add_argument("--format", choices=["png", "jpeg", "webp"], default="png", help="default: %(default)s")
    parser.add_argument("--records", type=int, default=16, help="made-up records (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1, help="rows in a batch, two samples each (default: %(default)s)")
    parser.add_argument("--workers", default="0,1,2", help="worker processes to try (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of measuring, each (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.size < 16 or arguments.size % 16 or arguments.records < 1 or arguments.rows < 1:
        print("error: --size: expected a positive multiple of 16; --records, --rows: positive numbers", file=sys.stderr)
        return 2
    try:
        workers = [int(number) for number in arguments.workers.split(",")]
    except ValueError:
        print(f"error: --workers: expected numbers with commas, found {arguments.workers!r}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        directory = os.path.join(folder, "records")
        manifest = write_records(directory, made_up_records(arguments.records, arguments.size, arguments.format))
        megabytes = manifest.num_bytes / manifest.num_records / 1e6
        print(f"{arguments.size} px {arguments.format}, {megabytes:.2f} MB a record, {os.cpu_count()} cores")
        for num_workers in workers:
            rate = measure(directory, arguments.size, num_workers, arguments.rows, arguments.seconds)
            print(f"workers {num_workers}: {rate:7.1f} samples/s, {rate * megabytes:6.1f} MB/s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
