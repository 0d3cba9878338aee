"""Which units are there already, and whether they are as they were written."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from srum_jax.generation.records import GenerationRecord, generation_record
from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.generation.work_units import Job, Unit
from srum_jax.inference.requests import GeneratedImage
from srum_jax.stages.folder import DamagedError, StageFolder
from srum_jax.stages.set_aside import set_aside
from srum_jax.stages.units import units_to_do
from srum_jax.storage.atomic_file import file_sha256


def missing_units(
    units: Sequence[Unit],
    folder: StageFolder,
    settings: GenerationSettings,
    *,
    repair: bool = False,
    on_checked: Callable[[Unit], object] = lambda unit: None,
) -> list[Unit]:
    """The units that are not committed, or of which an image is lost; see `stages.units.units_to_do`.

    Args:
      units: of this process.
      folder: of the run.
      settings: of the run.
      repair: whether to make units again of which a file was changed.
      on_checked: called after each committed unit.

    Raises:
      DamagedError: a file was changed since it was written, and `repair` is false.
    """
    return units_to_do(units, folder, lambda unit: _is_intact(unit, folder, settings), repair=repair,
                       before_repair=lambda unit: _set_changed_images_aside(unit, folder),
                       on_checked=on_checked)


def read_chunk(folder: StageFolder, unit: Unit) -> list[GenerationRecord]:
    """The records of a committed unit.

    Raises:
      DamagedError: naming the file and line.
    """
    lines = folder.lines(unit, GenerationRecord.from_json, [job.record_id for job in unit.jobs])
    return [GenerationRecord.from_json(line) for line in lines]


_NO_IMAGE = GeneratedImage(np.zeros((0, 0, 3), np.uint8), None)  # for the fields that depend on none
_OF_IMAGE = ("width", "height", "think_text", "think_truncated", "detailed_prompt", "image_sha256")


def _set_changed_images_aside(unit: Unit, folder: StageFolder) -> None:
    """Of a unit whose records can be read. Before the commit is withdrawn: afterwards nobody knows what was changed."""
    try:
        recorded = {record.record_id: record.image_sha256 for record in read_chunk(folder, unit)}
    except DamagedError:
        return
    for job in unit.jobs:
        image = folder.folder / job.image
        if image.exists() and file_sha256(image) != recorded.get(job.record_id):
            set_aside(folder.root, image)


def _is_intact(unit: Unit, folder: StageFolder, settings: GenerationSettings) -> bool:
    chunk, records = folder.chunk(unit), read_chunk(folder, unit)
    for number, (job, record) in enumerate(zip(unit.jobs, records, strict=True), start=1):
        try:
            _check_record(record, job, settings)
        except ValueError as error:
            raise DamagedError(f"{chunk}:{number}: {error}; {folder.repair}") from error
    images = [folder.folder / job.image for job in unit.jobs]
    if not all(image.exists() for image in images):
        return False
    for image, record in zip(images, records, strict=True):
        if file_sha256(image) != record.image_sha256:
            raise DamagedError(f"{image}: expected the file with SHA-256 {record.image_sha256[:12]}..., as recorded "
                               f"in {chunk.name}, found another; {folder.repair}")
    return True


def _check_record(record: GenerationRecord, job: Job, settings: GenerationSettings) -> None:
    """Raises ValueError if a field is not what the job says."""
    of_job = generation_record(job, _NO_IMAGE, (0, 0), settings)
    for field in dataclasses.fields(record):
        found = getattr(record, field.name)
        if field.name not in _OF_IMAGE and found != getattr(of_job, field.name):
            raise ValueError(f"field '{field.name}': found {found!r}, which this run does not write")
