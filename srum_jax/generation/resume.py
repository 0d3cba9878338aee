"""Which units are there already, and whether they are as they were written."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from srum_jax.generation.records import generation_record, image_path
from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.generation.work_units import Job, Unit
from srum_jax.inference.requests import GeneratedImage
from srum_jax.stages.folder import DamagedError, OutputFolder
from srum_jax.stages.set_aside import set_aside
from srum_jax.storage.atomic_file import file_sha256

_LOGGER = logging.getLogger(__name__)


def units_to_do(
    units: Sequence[Unit],
    folder: OutputFolder,
    settings: GenerationSettings,
    *,
    repair: bool = False,
    on_checked: Callable[[Unit], None] = lambda unit: None,
) -> list[Unit]:
    """The units that are not committed. A commit whose images are not all there is withdrawn, and with it what later
    stages made of it; nothing is deleted, see `set_aside`.

    Args:
      units: of this process.
      folder: of the run.
      settings: of the run.
      repair: whether to make units again of which a file was changed.
      on_checked: called after each committed unit.

    Raises:
      DamagedError: a file was changed since it was written, and `repair` is false.
    """
    committed = folder.committed()
    missing = []
    for unit in units:
        if folder.chunk(unit) not in committed:
            missing.append(unit)
            continue
        try:
            intact = _is_intact(unit, folder, settings)
        except DamagedError as error:
            if not repair:
                raise
            _LOGGER.warning("%s", error)
            _set_changed_images_aside(unit, folder, settings)
            intact = False
        if not intact:
            moved = folder.withdraw(unit)
            _LOGGER.warning("made again: unit %s of shard %d; set aside: %s", unit.name, unit.shard,
                            ", ".join(str(path.relative_to(folder.root)) for path in moved))
            missing.append(unit)
        on_checked(unit)
    return missing


def read_chunk(path: epath.Path) -> list[dict[str, Any]]:
    """The records of a committed unit.

    Raises:
      DamagedError: naming the file and line.
    """
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DamagedError(f"{path}:{number}: expected a generation record, found no JSON ({error}). {_REPAIR}"
                               ) from error
        if not isinstance(record, dict) or not isinstance(record.get("image_sha256"), str):
            raise DamagedError(f"{path}:{number}: field 'image_sha256': expected a checksum, found none. {_REPAIR}")
        records.append(record)
    return records


_NO_IMAGE = GeneratedImage(np.zeros((0, 0, 3), np.uint8), None)  # for the fields that depend on none
_REPAIR = "It was changed after it was written; --repair makes it again."


def _set_changed_images_aside(unit: Unit, folder: OutputFolder, settings: GenerationSettings) -> None:
    """Of a unit whose records can be read. Before the commit is withdrawn: afterwards nobody knows what was changed."""
    try:
        recorded = {record.get("record_id"): record["image_sha256"] for record in read_chunk(folder.chunk(unit))}
    except DamagedError:
        return
    for job in unit.jobs:
        image = folder.generate / image_path(job, settings)
        if image.exists() and file_sha256(image) != recorded.get(job.record_id):
            set_aside(folder.root, image)


def _is_intact(unit: Unit, folder: OutputFolder, settings: GenerationSettings) -> bool:
    chunk = folder.chunk(unit)
    records = read_chunk(chunk)
    expected = [job.record_id for job in unit.jobs]
    found = [record.get("record_id") for record in records]
    if found != expected:
        raise DamagedError(f"{chunk}: expected the records {_listed(expected)}, found {_listed(found)}. {_REPAIR}")
    for number, (job, record) in enumerate(zip(unit.jobs, records, strict=True), start=1):
        _check_record(f"{chunk}:{number}", record, job, settings)
    images = [folder.generate / image_path(job, settings) for job in unit.jobs]
    if not all(image.exists() for image in images):
        return False
    for image, record in zip(images, records, strict=True):
        if file_sha256(image) != record["image_sha256"]:
            raise DamagedError(f"{image}: expected the file with SHA-256 {record['image_sha256'][:12]}..., as recorded "
                               f"in {chunk.name}, found another. {_REPAIR}")
    return True


def _check_record(place: str, record: dict[str, Any], job: Job, settings: GenerationSettings) -> None:
    """Raises DamagedError if a field is absent, or is not what the job says."""
    of_job = json.loads(json.dumps(generation_record(job, _NO_IMAGE, (0, 0), settings)))
    for name, value in of_job.items():
        if name not in record:
            raise DamagedError(f"{place}: field '{name}': found no such field. {_REPAIR}")
        found = record[name]
        if name in ("width", "height"):
            fits = type(found) is int and found > 0
        elif name in ("think_text", "detailed_prompt"):
            fits = found is None or isinstance(found, str)
        else:
            fits = name == "think_truncated" or found == value
        if not fits:
            raise DamagedError(f"{place}: field '{name}': found {found!r}, which this run does not write. {_REPAIR}")


def _listed(names: Sequence[Any]) -> str:
    text = ", ".join(map(str, names[:4]))
    return f"{text}, ... ({len(names)})" if len(names) > 4 else text
