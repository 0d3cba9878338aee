"""Turns the authors' SRUM JSON lines and the folder of images into reward records.

Reads both the training form (bad_image_file, vlm_rewards with a global_layout_reward) and the intermediate form
(image_file, global_layout_reward apart). Inclusive boxes become half-open. Records that cannot be used go, with the
reason, to OUT/rejects/; a summary is printed and written to OUT/summary-import.json.
"""

import argparse
import dataclasses
import json
import os

from etils import epath
from tqdm import tqdm

import srum_jax
from srum_jax.command_line import user_path
from srum_jax.data.errors import DuplicateIdError, SchemaError
from srum_jax.data.schema import IMAGE_FORMATS, GlobalStatus, RewardRecord
from srum_jax.data.writer import RecordWriter, num_shards_for, record_of_image
from srum_jax.errors import BadInput
from srum_jax.stages import STAGE_VERSION
from srum_jax.storage.atomic_file import file_sha256, is_local, write_json
from srum_jax.storage.reading import numbered_lines, why_absent
from tools.make_rewards.errors import Reject, Rejects, usable_image
from tools.make_rewards.official_format import JudgedImage, convert_global, convert_regions, parse_entry
from tools.make_rewards.reject_rate import add_reject_argument, refuse_too_many
from tools.make_rewards.reward_record import IMPORT_RULES, RecordRules, add_rule_arguments, rules_of

SUMMARY = "turn the authors' SRUM JSON lines and images into records"
STAGE = "import"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--jsonl", type=user_path, required=True, metavar="FILE",
                        help="judged images, one JSON object a line")
    parser.add_argument("--images", type=user_path, required=True, metavar="DIR",
                        help="folder that the file names are relative to")
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR",
                        help="where to write; must not hold records")
    parser.add_argument("--name", default="srum-rewards", help="starts the file names (default: %(default)s)")
    parser.add_argument("--num-shards", type=int, metavar="N", help="default: by size, about 512 MiB each, at least 4")
    add_reject_argument(parser)
    add_rule_arguments(parser, "global_absent", "global_zero", "no_region")


def run(arguments: argparse.Namespace) -> None:
    """The subcommand."""
    jsonl, images, out = (epath.Path(path) for path in (arguments.jsonl, arguments.images, arguments.out))
    if not jsonl.exists() or jsonl.is_dir():
        raise BadInput(f"--jsonl {jsonl}: no such file.")
    if not images.is_dir():
        raise BadInput(f"--images {images}: no such directory.")
    rules = rules_of(arguments, IMPORT_RULES)
    num_lines, num_bytes = _measure(jsonl, images)
    if not num_lines:
        raise BadInput(f"--jsonl {jsonl}: holds no records.")
    num_shards = num_shards_for(num_bytes, num_lines) if arguments.num_shards is None else arguments.num_shards
    rejects = Rejects()
    settings = dataclasses.asdict(rules) | {"jsonl_sha256": file_sha256(jsonl)}
    try:
        writer = RecordWriter(out, name=arguments.name, num_shards=num_shards, settings=settings,
                              provenance=_provenance())
    except ValueError as error:  # a bad name or number, or other records in the way
        raise BadInput(str(error)) from error
    with writer:
        lines = tqdm(numbered_lines(jsonl), total=num_lines, unit="record", disable=None)
        for index, (line_number, line) in enumerate(lines):
            record_id = f"line {line_number}"
            try:
                judged = _parse_line(line)
                record_id = judged.image_file
                _write(writer, make_record(judged, index, images, rules, rejects))
            except Reject as reject:
                writer.reject(index, reject.reason)
                rejects.add(record_id, STAGE, reject, file=os.fspath(jsonl.name), line=line_number,
                            **({"text": line.decode("utf-8-sig", "replace")} if record_id.startswith("line ") else {}))
        rejects.write(out / "rejects" / f"{STAGE}-00000-of-00001.jsonl")
        manifest = writer.close(num_prompts=num_lines)
    summary = {
        "records": num_lines, "exported": manifest.num_records, "rejected": dict(sorted(rejects.reasons.items())),
        "reject_rate": rejects.total / num_lines, "warnings": dict(sorted(rejects.warnings.items())),
        "num_shards": manifest.num_shards, "num_bytes": manifest.num_bytes,
    }
    write_json(out / f"summary-{STAGE}.json", summary)
    print(json.dumps(summary, indent=1, sort_keys=True))
    refuse_too_many(num_lines, summary["rejected"], arguments.max_reject_rate, out / "rejects")


def make_record(
    judged: JudgedImage, index: int, images: epath.Path, rules: RecordRules, rejects: Rejects
) -> RewardRecord:
    """A record from a judged image, its file read and decoded.

    Raises:
      Reject: with one of the reasons of the format.
    """
    encoded = read_listed_image(images, judged.image_file)
    image = usable_image(encoded, judged.image_file)
    width, height = image.size
    if image.mode != "RGB":
        rejects.warnings[f"image_mode_{image.mode}_will_be_converted"] += 1
    global_fields = convert_global(judged)
    if global_fields["global_status"] != GlobalStatus.OK and rules.global_absent == "drop":
        raise Reject("global_unparsed", "no usable global score (--global-absent keep keeps such records)")
    if global_fields.get("global_score") == 0 and rules.global_zero == "drop":
        raise Reject("global_zero", "the global score is exactly 0")
    regions, provider = convert_regions(judged, width, height, rejects.warnings)
    if not regions:
        if rules.no_region == "drop":
            raise Reject("no_region", "no usable region")
        rejects.warnings["record_without_regions"] += 1
    record = record_of_image(
        encoded, record_id=judged.image_file, index=index, prompt=judged.prompt, regions=regions, provider=provider,
        num_found=len(judged.regions), provenance=_provenance(), **global_fields)
    if record.image_format not in IMAGE_FORMATS:
        raise Reject("unreadable_image", f"{judged.image_file}: expected {', '.join(IMAGE_FORMATS)}, found "
                                         f"{record.image_format}")
    return record


def _write(writer: RecordWriter, record: RewardRecord) -> None:
    try:
        writer.write(record)
    except SchemaError as error:
        raise Reject("duplicate_id" if isinstance(error, DuplicateIdError) else "schema_error", str(error)) from error


def _parse_line(raw: bytes) -> JudgedImage:
    try:
        line = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Reject("schema_error", f"expected UTF-8 text ({error.reason} at byte {error.start})") from error
    try:
        return parse_entry(json.loads(line))
    except ValueError as error:  # also: an integer of thousands of digits
        raise Reject("schema_error", f"not valid JSON ({error})") from error
    except RecursionError as error:
        raise Reject("schema_error", "not usable JSON (nested too deeply)") from error


def read_listed_image(images: epath.Path, name: str) -> bytes:
    """The bytes of a file that a list names.

    Raises:
      Reject: it does not lie below the folder, or cannot be read.
    """
    parts = name.replace("\\", "/").split("/")
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise Reject("missing_image", f"{name!r}: expected a file name below the folder of images")
    path = images / name
    try:
        if not (os.path.isfile(path) if is_local(path) else path.exists()):  # a pipe would wait for ever
            raise Reject("missing_image", f"{name}: {why_absent(path)} below the folder of images")
        return path.read_bytes()
    except OSError as error:
        raise Reject("unreadable_image", f"{name}: {error.strerror or error}") from error


def _measure(jsonl: epath.Path, images: epath.Path) -> tuple[int, int]:
    """Number of records, and bytes of their images as far as they can be found."""
    count = num_bytes = 0
    for _, line in numbered_lines(jsonl):
        count += 1
        try:
            num_bytes += (images / _parse_line(line).image_file).stat().length
        except (Reject, OSError, ValueError):
            continue  # counted and reported when the record is made
    return count, num_bytes


def _provenance() -> dict:
    return {"imported": True, "package_version": srum_jax.__version__, "stage_version": STAGE_VERSION}
