"""Samples per second of the input pipeline of one process, against the need of a host of a pod.

  python -m benchmarks.input_pipeline
  python -m benchmarks.input_pipeline --size 1024 --format jpeg --workers 0,1,2,4 --seconds 20
  python -m benchmarks.input_pipeline --latents stored
  python -m benchmarks.input_pipeline --records gs://bucket/records --step-seconds 2.4

What the pipeline has is measured in the run that prints it; workers are worth it when decoding is heavy and cores are
free. The records are made up, smooth gradients with noise, so that their files are about as large as those of generated
pictures; or your own.

What a host needs is chips x rows per chip x samples per row / step time. Unless --step-seconds gives a step time that
was measured, the step time is an ESTIMATE: model FLOPs of the rows that were read (all weights of BAGEL trained,
padding and recomputation not counted) / (peak of a chip x --mfu). The defaults are a host of v5p-64 (8 hosts of 4
chips), one row of two samples on each chip.
"""

import argparse
import dataclasses
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from srum_jax.command_line import user_path
from srum_jax.data.config import DataConfig
from srum_jax.data.errors import DataError
from srum_jax.data.manifest import Manifest
from srum_jax.data.records_source import find_records, read_manifest
from srum_jax.data.schema import GlobalStatus, Region, RewardRecord
from srum_jax.data.stored_code import POSTERIOR, StoredCode
from srum_jax.data.writer import record_of_image, write_records
from srum_jax.families.bagel.config import BagelRows
from srum_jax.models.bagel.config import RELEASED
from srum_jax.objectives.config import RewardWeighted
from srum_jax.observability.peak_flops import PEAK_FLOPS
from srum_jax.rewards.boxes import Box

_MODEL = dataclasses.replace(RELEASED, vit=None)  # only its sizes matter here
_SAMPLES_PER_ROW = 2


class _LetterTokenizer:
    """One id a letter: the cost of a real tokenizer is small beside that of an image."""

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        """Ids of a text."""
        return [ord(letter) for letter in text.encode("ascii", "replace").decode()]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one process of the pipeline does."""

    samples_per_second: float
    flops_per_row: float  # model FLOPs of a training step, mean over the rows that were read


@dataclasses.dataclass(frozen=True)
class Host:
    """What one host of a pod does with rows."""

    chip: str  # as JAX names it
    chips: int
    rows_per_chip: int
    mfu: float  # model FLOPs / peak that is assumed
    step_seconds: float | None = None  # measured elsewhere, instead of the estimate

    def seconds(self, flops_per_row: float) -> float:
        """Of one step."""
        if self.step_seconds is not None:
            return self.step_seconds
        return self.rows_per_chip * flops_per_row / (PEAK_FLOPS[self.chip] * self.mfu)

    def samples_per_second(self, flops_per_row: float) -> float:
        """That the host needs."""
        return self.chips * self.rows_per_chip * _SAMPLES_PER_ROW / self.seconds(flops_per_row)


def made_up_records(count: int, size: int, image_format: str, latents: str = "images") -> Iterator[RewardRecord]:
    """Records with square images of `size` pixels and three boxes; with random latents if they are to be "stored"."""
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
            global_status=GlobalStatus.OK, global_score=0.8,
            code=_random_posterior(draws, size) if latents == "stored" else None)


def _random_posterior(draws: np.random.Generator, size: int) -> StoredCode:
    cells = size // _MODEL.vae.downsample
    moments = draws.normal(0, 1, (cells, cells, 2 * _MODEL.vae.z_channels))
    return StoredCode.of(POSTERIOR, moments, "float16", image=(size, size), canvas=(size, size),
                         encoder_sha256=bytes(32))


def measure(records: str, size: int, num_workers: int, num_threads: int, rows_per_batch: int,
            seconds: float, latents: str = "images") -> Measured:
    """Reads for some seconds, after the first two batches.

    Raises:
      DataError: a record cannot be used.
    """
    # These import JAX, which takes seconds.
    from srum_jax.data.pipeline import HostBatchIterator
    from srum_jax.families.bagel.rows import BagelPacker
    from srum_jax.families.bagel.step_flops import count_pack, step_flops

    data = DataConfig(records=records, rows_per_batch=rows_per_batch, num_workers=num_workers, num_threads=num_threads)
    rows = BagelRows(samples_per_row=_SAMPLES_PER_ROW, image_height=size, image_width=size, max_size=size,
                     min_size=min(512, size), latent_capacity=_SAMPLES_PER_ROW * (size // 16) ** 2, latents=latents)
    objective = RewardWeighted()
    packer = BagelPacker(rows, _MODEL, _LetterTokenizer(), objective.columns)
    batches = HostBatchIterator(data, packer, objective, seed=0)
    try:
        for _ in range(2):
            first = next(batches)
        start, num_samples = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            num_samples += sum(map(len, next(batches).record_ids))
        rate = num_samples / (time.perf_counter() - start)
    finally:
        batches.close()
    return Measured(rate, step_flops(_MODEL, count_pack(first.batch)) / rows_per_batch)


def print_need(host: Host, flops_per_row: float, megabytes: float) -> None:
    """Says what the host needs, and from what this follows."""
    step = host.seconds(flops_per_row)
    if host.step_seconds is None:
        source = (f"estimated: {host.rows_per_chip} x {flops_per_row:.3g} model FLOPs / ({PEAK_FLOPS[host.chip]:.4g} "
                  f"FLOP/s x {host.mfu:g})")
    else:
        source = "given"
    need = host.samples_per_second(flops_per_row)
    print(f"need of a host with {host.chips} x {host.chip}, {host.rows_per_chip} row(s) of {_SAMPLES_PER_ROW} samples "
          f"a chip: {need:.2f} samples/s, {need * megabytes:.1f} MB/s\n"
          f"  step time {step:.3g} s ({source})")


def print_have(have: Measured, host: Host, num_workers: int, megabytes: float) -> None:
    """One line for one number of workers."""
    need = host.samples_per_second(have.flops_per_row)
    rate = have.samples_per_second
    print(f"workers {num_workers}: {rate:7.2f} samples/s, {rate * megabytes:6.1f} MB/s, {rate / need:6.2f} x the need",
          flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = _parser().parse_args(argv)
    problem = _problem(arguments)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as folder:
            _run(arguments, os.path.join(folder, "records"))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(arguments: argparse.Namespace, folder: str) -> None:
    records, manifest = _records(arguments, folder)
    megabytes = manifest.num_bytes / manifest.num_records / 1e6
    host = Host(arguments.chip, arguments.chips, arguments.rows_per_chip, arguments.mfu, arguments.step_seconds)
    kind = arguments.records or f"made up, {arguments.format}"
    print(f"records: {kind}, {megabytes:.2f} MB each, trained at {arguments.size} px, latents: {arguments.latents}; "
          f"here: {os.cpu_count()} cores, "
          f"load {os.getloadavg()[0]:.1f}, {arguments.threads} threads in each process")
    for place, num_workers in enumerate(_numbers(arguments.workers)):
        have = measure(records, arguments.size, num_workers, arguments.threads, arguments.rows, arguments.seconds,
                       arguments.latents)
        if place == 0:
            print_need(host, have.flops_per_row, megabytes)
        print_have(have, host, num_workers, megabytes)


def _records(arguments: argparse.Namespace, folder: str) -> tuple[str, Manifest]:
    if arguments.records:
        return arguments.records, read_manifest(find_records(arguments.records))
    made_up = made_up_records(arguments.count, arguments.size, arguments.format, arguments.latents)
    return folder, write_records(folder, made_up)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input_pipeline", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    have = parser.add_argument_group("what is measured")
    have.add_argument("--records", type=user_path, metavar="DIR", help="your own records; default: made up")
    have.add_argument("--count", type=int, default=16, help="made-up records (default: %(default)s)")
    have.add_argument("--size", type=int, default=1024, help="pixels a side, a multiple of 16 (default: %(default)s)")
    have.add_argument("--format", choices=["png", "jpeg", "webp"], default="png", help="default: %(default)s")
    have.add_argument("--latents", choices=["images", "stored"], default="images",
                      help="images are decoded, or the records' latents are read (default: %(default)s)")
    have.add_argument("--rows", type=int, default=4, help="rows in a batch of this process (default: %(default)s)")
    have.add_argument("--workers", default="0,1,2", help="worker processes to try (default: %(default)s)")
    have.add_argument("--threads", type=int, default=4, help="in each of them (default: %(default)s)")
    have.add_argument("--seconds", type=float, default=10, help="of measuring, each (default: %(default)s)")
    need = parser.add_argument_group("what a host needs")
    need.add_argument("--chip", choices=sorted(PEAK_FLOPS), default="TPU v5p", help="default: %(default)s")
    need.add_argument("--chips", type=int, default=4, help="of a host (default: %(default)s)")
    need.add_argument("--rows-per-chip", type=int, default=1, help="in a step (default: %(default)s)")
    need.add_argument("--mfu", type=float, default=0.4, help="share of the peak, assumed (default: %(default)s)")
    need.add_argument("--step-seconds", type=float, help="a measured step time; default: estimated from --mfu")
    return parser


def _problem(arguments: argparse.Namespace) -> str | None:
    if arguments.size < 16 or arguments.size % 16:
        return f"--size: expected a positive multiple of 16, found {arguments.size}"
    for name in ("count", "rows", "threads", "seconds", "chips", "rows_per_chip", "mfu", "step_seconds"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            return f"--{name.replace('_', '-')}: expected a positive number, found {value}"
    if _numbers(arguments.workers) is None:
        return f"--workers: expected numbers with commas, found {arguments.workers!r}"
    return None


def _numbers(text: str) -> list[int] | None:
    parts = text.split(",")
    return [int(part) for part in parts] if all(part.strip().isdecimal() for part in parts) else None


if __name__ == "__main__":
    sys.exit(main())
