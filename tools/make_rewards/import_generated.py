"""Takes over images that the authors' code has generated, as if `generate` had made them: segment, judge, export go on.

DIR holds the images and output.jsonl, one object a line: prompt_id, image_file, original_prompt, detailed_prompt,
think_output. No model is run; seeds and samplers are unknown (null), and records say that they were imported. Lines
that cannot be used are listed in OUT/rejects and counted. Resumable.
"""

import argparse
import dataclasses
import hashlib
import json
import time
from typing import Any

from etils import epath
from tqdm import tqdm

import srum_jax
from srum_jax.command_line import user_path
from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import ImageHeader, read_header
from srum_jax.data.schema import IMAGE_FORMATS, is_unicode
from srum_jax.errors import BadInput
from srum_jax.generation.prompt_file import BadRow, read_prompt_file
from srum_jax.generation.prompt_formats import PromptFormat
from srum_jax.generation.prompts import IdError, Prompt, record_id, to_jsonl
from srum_jax.generation.records import GenerationRecord
from srum_jax.generation.run_file import PROMPTS
from srum_jax.generation.run_settings import GenerationSettings, OutputSettings
from srum_jax.generation.runner import finish_shards, write_rejects
from srum_jax.generation.work_units import Job, Unit, plan_work
from srum_jax.stages import GENERATE, STAGE_VERSION, noted
from srum_jax.stages.folder import StageFolder
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.storage.reading import numbered_lines
from tools.make_rewards.errors import Reject
from tools.make_rewards.import_jsonl import read_listed_image
from tools.make_rewards.reject_rate import add_reject_argument, refuse_too_many
from tools.make_rewards.stage_run import print_outcome

SUMMARY = "take over images that the authors' code has generated"
_NO_DETAILED_PROMPT = "Failed to extract detailed prompt."  # what the authors store where this project stores null
_FORMAT = PromptFormat("original_prompt", "prompt_id", lines_only=True)
_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--images", type=user_path, required=True, metavar="DIR", help="the folder of the images")
    parser.add_argument("--jsonl", type=user_path, metavar="FILE", help="what they show (default: DIR/output.jsonl)")
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="new, or begun by the same command")
    parser.add_argument("--set-name", metavar="NAME", help="first part of every record's id (default: DIR's name)")
    parser.add_argument("--num-shards", type=int, default=16, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, metavar="B",
                        help="images that are committed, and later judged, together (default: %(default)s)")
    add_reject_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    """The subcommand."""
    images = epath.Path(arguments.images)
    jsonl = epath.Path(arguments.jsonl) if arguments.jsonl is not None else images / "output.jsonl"
    for path, there in ((images, images.is_dir()), (jsonl, jsonl.exists() and not jsonl.is_dir())):
        if not there:
            raise BadInput(f"{path}: expected the images of the authors' code and their output.jsonl, found no "
                                "such thing.")
    set_name = arguments.set_name or images.resolve().name
    try:
        record_id(set_name, "0", 0)
    except IdError as error:
        raise BadInput(f"--set-name: {error}") from error
    settings = GenerationSettings(output=OutputSettings(arguments.num_shards), batch_size=arguments.batch_size)
    found, bad = _read(jsonl, images, set_name)
    plan = plan_work([image.prompt for image in found.values()], settings)
    folder = StageFolder(arguments.out, GENERATE, settings.output.num_shards)
    folder.root.mkdir(parents=True, exist_ok=True)
    prompts = to_jsonl(image.prompt for image in found.values())
    noted.note(folder.settings, _run_json(prompts, len(found), set_name, settings, jsonl))
    folder.create(folder.root / PROMPTS, prompts)
    write_rejects(bad, folder)
    started, count = time.monotonic(), 0
    for unit in tqdm(plan.units, unit="unit", disable=None):
        if not folder.chunk(unit).exists():
            _commit(unit, found, images, folder)
            count += len(unit.jobs)
    summary = finish_shards(plan, bad, folder)
    print_outcome("import-generated", count, time.monotonic() - started, summary)
    refuse_too_many(len(found) + len(bad), summary["rejected"], arguments.max_reject_rate, folder.root / "rejects")


@dataclasses.dataclass(frozen=True)
class _Image:
    """A usable line."""

    prompt: Prompt
    file: str
    header: ImageHeader
    think_text: str | None
    detailed_prompt: str | None


def _read(jsonl: epath.Path, images: epath.Path, set_name: str) -> tuple[dict[int, _Image], list[BadRow]]:
    """Images by index, and the lines that cannot be used."""
    prompts, found = read_prompt_file(jsonl, _FORMAT, set_name), {}
    usable = {prompt.line for prompt in prompts.rows}
    entries = {number: json.loads(line.decode("utf-8-sig")) for number, line in numbered_lines(jsonl)
               if number in usable}

    def check(prompt: Prompt) -> Prompt | BadRow:
        try:
            found[prompt.index] = _image(prompt, entries[prompt.line], images)
        except Reject as reject:
            return BadRow(prompt.index, prompt.line, reject.reason, reject.detail, prompt.source_id)
        return prompt

    return found, prompts.checked(check).bad


def _image(prompt: Prompt, entry: dict[str, Any], images: epath.Path) -> _Image:
    file = entry.get("image_file", f"{prompt.source_id}.png")
    if not isinstance(file, str) or not is_unicode(file):
        raise Reject("missing_image", f"field 'image_file': expected a file name, found {file!r}")
    try:
        header = read_header(read_listed_image(images, file))
    except ImageError as error:
        raise Reject("unreadable_image", f"{file}: {error}") from error
    if header.format not in IMAGE_FORMATS:
        raise Reject("unreadable_image", f"{file}: expected {', '.join(IMAGE_FORMATS)}, found {header.format}")
    texts = {name: entry.get(name) for name in ("think_output", "detailed_prompt")}
    for name, text in texts.items():
        if text is not None and (not isinstance(text, str) or not is_unicode(text)):
            raise Reject("bad_prompt", f"field '{name}': expected a text or null, found {text!r}")
    detailed = texts["detailed_prompt"]
    return _Image(prompt, file, header, texts["think_output"], None if detailed == _NO_DETAILED_PROMPT else detailed)


def _commit(unit: Unit, found: dict[int, _Image], images: epath.Path, folder: StageFolder) -> None:
    records = []
    for job in unit.jobs:
        image = found[job.prompt.index]
        try:
            encoded = read_listed_image(images, image.file)
        except Reject as reject:
            raise BadInput(f"{images / image.file}: {reject.detail}; it was there when the command began."
                                ) from reject
        record = _record(job, image, encoded)
        folder.write(folder.folder / record.image, encoded)
        records.append(record.to_json())
    folder.commit(unit, records)


def _record(job: Job, image: _Image, encoded: bytes) -> GenerationRecord:
    """As `generate` writes it; what only it can know is null."""
    return GenerationRecord(
        record_id=job.record_id, index=job.prompt.index, candidate=job.candidate, prompt=job.prompt.prompt,
        category=job.prompt.category, think=image.think_text is not None, think_text=image.think_text,
        think_truncated=False, detailed_prompt=image.detailed_prompt,
        image=f"images/{job.shard:05d}/{job.record_id}{_SUFFIXES[image.header.format]}", width=image.header.width,
        height=image.header.height, seed=None, sampler=None, image_sha256=hashlib.sha256(encoded).hexdigest(),
    )


def _run_json(
    prompts: bytes, count: int, set_name: str, settings: GenerationSettings, jsonl: epath.Path
) -> dict[str, Any]:
    return {
        "stage_version": STAGE_VERSION, "package_version": srum_jax.__version__, "imported": True,
        "num_shards": settings.output.num_shards,
        "prompts": {"set": set_name, "count": count, "sha256": hashlib.sha256(prompts).hexdigest()},
        "generate": {"jsonl_sha256": file_sha256(jsonl), "settings": {"num_candidates": 1, "base_seed": None,
                                                                      "batch_size": settings.batch_size}},
    }
