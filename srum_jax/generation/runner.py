"""Generating the units of one process: images first, then their records, unit after unit."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.generation.image_store import crop_black_border, encode_image
from srum_jax.generation.prompt_file import BadRow
from srum_jax.generation.prompts import Prompt
from srum_jax.generation.records import GenerationRecord, generation_record
from srum_jax.generation.resume import read_chunk
from srum_jax.generation.row_checks import read_source_image, request_of
from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.generation.work_units import Job, Unit, WorkPlan
from srum_jax.inference.protocols import Generator
from srum_jax.inference.requests import GeneratedImage
from srum_jax.stages.ahead import one_ahead
from srum_jax.stages.folder import DamagedError, StageFolder, by_shard
from srum_jax.storage.atomic_file import as_json_lines


def generate_units(
    units: Sequence[Unit],
    generator: Generator,
    folder: StageFolder,
    settings: GenerationSettings,
    source_folder: epath.Path,
) -> Iterator[list[GenerationRecord]]:
    """Makes and commits units; yields the records of each. The next unit is computed while one is being written.

    Args:
      units: what is to be done.
      generator: the model.
      folder: of the run.
      settings: of the run.
      source_folder: that the paths of source images are relative to.

    Raises:
      WriteError: a file cannot be written.
      DamagedError: a source image is no longer what it was.
      Failure: the model's numbers are not numbers.
    """
    for unit, images in one_ahead(units, lambda unit: _make(unit, generator, settings, source_folder)):
        records = [_store(job, image, folder, settings) for job, image in zip(unit.jobs, images, strict=True)]
        folder.commit(unit, [record.to_json() for record in records])
        yield records


def _make(
    unit: Unit, generator: Generator, settings: GenerationSettings, source_folder: epath.Path
) -> list[GeneratedImage]:
    sources: dict[int, Any] = {}  # by prompt: candidates share their picture
    requests = []
    for job in unit.jobs:
        prompt = job.prompt
        if job.edit and prompt.index not in sources:
            sources[prompt.index] = _source(prompt, source_folder)
        requests.append(request_of(prompt, seed=job.seed, image=sources.get(prompt.index), height=settings.height,
                                   width=settings.width))
    requests += [requests[0]] * (unit.rows - len(requests))
    images = generator.generate(requests, plan=settings.plan)
    return images[: len(unit.jobs)]


def _source(prompt: Prompt, folder: epath.Path) -> Any:
    image, digest = read_source_image(folder, prompt)
    if digest != prompt.image_sha256:
        raise DamagedError(f"{folder / prompt.image}: expected the picture that was there when the run began, found "
                           "another; put it back, or use another --out.")
    return image


def _store(
    job: Job, image: GeneratedImage, folder: StageFolder, settings: GenerationSettings
) -> GenerationRecord:
    pixels = crop_black_border(image.pixels) if settings.output.crop_black_border else image.pixels
    record = generation_record(job, image, pixels.shape[:2], settings)
    data = encode_image(pixels, settings.output.image_format, record.to_json())
    folder.write(folder.folder / job.image, data)
    return dataclasses.replace(record, image_sha256=hashlib.sha256(data).hexdigest())


def write_rejects(bad: Sequence[BadRow], folder: StageFolder) -> None:
    """Lists the rows that were left out, in the shards that they would belong to."""
    rows_of: dict[int, list[BadRow]] = {}
    for row in bad:
        rows_of.setdefault(row.index % folder.num_shards, []).append(row)
    for shard, rows in rows_of.items():
        folder.create(folder.rejects(shard), as_json_lines(row.to_json() for row in rows))


def finish_shards(plan: WorkPlan, bad: Sequence[BadRow], folder: StageFolder) -> Mapping[str, Any] | None:
    """Marks the shards that are complete; if all are, writes the summary and returns it.

    Args:
      plan: of the whole run.
      bad: rows that were left out.
      folder: of the run.
    """
    shards = dict.fromkeys(range(plan.num_shards), ()) | by_shard(plan.units)

    def describe(shard: int) -> dict[str, Any]:
        rejected = Counter(row.reason for row in bad if row.index % plan.num_shards == shard)
        return {"num_records": sum(len(unit.jobs) for unit in shards[shard]),
                "num_rejected": dict(sorted(rejected.items()))}

    return folder.finish(shards, lambda: _summary(plan, bad, folder), describe)


def _summary(plan: WorkPlan, bad: Sequence[BadRow], folder: StageFolder) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for unit in plan.units:
        for record in read_chunk(folder, unit):
            counts["images"] += 1
            if record.think:
                counts["plans_empty"] += not (record.think_text or "").strip()
                counts["plans_truncated"] += record.think_truncated
                counts["plans_with_detailed_prompt"] += record.detailed_prompt is not None
    prompts = len({job.prompt.index for unit in plan.units for job in unit.jobs})
    return {
        "prompts": prompts + len(bad),
        "rejected": dict(sorted(Counter(row.reason for row in bad).items())),
        "candidates": plan.num_images,
        "images": counts["images"],
        "think": {name: counts[name] for name in sorted(counts) if name.startswith("plans_")},
        "shards": plan.num_shards,
    }
