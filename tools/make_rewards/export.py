"""Writes the records that training reads, from what `generate`, `segment` and `judge` have written.

Images that become no record are listed with the reason in OUT/rejects; the summary counts them. OUT/export holds the
shards. Given --official-jsonl, the authors' training format is written beside them.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from etils import epath
from tqdm import tqdm

from srum_jax.command_line import user_path
from srum_jax.data.errors import SchemaError
from srum_jax.data.image_transform import read_header
from srum_jax.data.manifest import MANIFEST
from srum_jax.data.records_source import read_manifest
from srum_jax.data.schema import RewardRecord, validate
from srum_jax.data.sidecars import restore_sidecars
from srum_jax.data.writer import RecordWriter, num_shards_for
from srum_jax.errors import BadInput
from srum_jax.generation.records import GenerationRecord
from srum_jax.stages import EXPORT, GENERATE, JUDGE, SEGMENT, noted
from srum_jax.storage.atomic_file import write_bytes, write_json
from tools.make_rewards.errors import Reject, Rejects
from tools.make_rewards.official_format import official_line
from tools.make_rewards.provenance import record_provenance, run_provenance, shared_provenance, stage_settings
from tools.make_rewards.reject_rate import add_reject_argument, refuse_too_many
from tools.make_rewards.reward_record import (
    OFFICIAL_RULES,
    PAPER_RULES,
    RecordRules,
    add_rule_arguments,
    reward_record,
    rules_of,
)
from tools.make_rewards.run_folder import RunFolder
from tools.make_rewards.verify import print_problems
from tools.make_rewards.verify_records import verify_records
from tools.make_rewards.verify_run import verify_run

SUMMARY = "write reward records from judged images"
_PRESETS = {"paper": PAPER_RULES, "official": OFFICIAL_RULES}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="the folder of the other stages")
    parser.add_argument("--name", default="srum-rewards", help="starts the file names (default: %(default)s)")
    parser.add_argument("--preset", choices=tuple(_PRESETS), default="paper",
                        help="where the following two start (default: %(default)s)")
    add_rule_arguments(parser, "global_zero", "no_region")
    parser.add_argument("--num-record-shards", type=int, metavar="N", help="default: by size, about 512 MiB each")
    parser.add_argument("--official-jsonl", type=user_path, metavar="FILE",
                        help="write the authors' training format too")
    parser.add_argument("--verify", action="store_true",
                        help="then prove that prompts x candidates = exported + rejected, every id occurs once, and "
                             "all checksums hold (as `verify OUT`)")
    add_reject_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """The subcommand; returns the exit code."""
    if arguments.official_jsonl is not None and not epath.Path(arguments.official_jsonl).parent.is_dir():
        raise BadInput(f"--official-jsonl {arguments.official_jsonl}: expected a file in a folder that exists.")
    folder = RunFolder(arguments.out)
    rules = rules_of(arguments, _PRESETS[arguments.preset])
    settings = {"rules": {"global_zero": rules.global_zero, "no_region": rules.no_region},
                "stages": stage_settings(folder)}
    out = folder.root / EXPORT
    if (out / MANIFEST).exists():
        _check_shape(out, arguments)
        code = _already_there(out, settings, arguments.verify)
        if not code and arguments.official_jsonl is not None:
            write_bytes(arguments.official_jsonl, b"".join(_official_lines(folder, rules)))
    else:
        _export(arguments, folder, rules, settings)
        code = 0
    if not code and arguments.verify:
        code = int(print_problems(verify_run(folder.root), folder.root) > 0)
        if not code:
            print(f"{folder.root}: prompts x candidates = exported + rejected, every id once, all checksums hold")
    if not code:
        counts = read_manifest(out).counts
        refuse_too_many(counts["candidates"], counts["rejected"], arguments.max_reject_rate, folder.root / "rejects")
    return code


def _export(
    arguments: argparse.Namespace, folder: RunFolder, rules: RecordRules, settings: dict[str, Any]
) -> None:
    candidates = sum(len(folder.generated(unit)) for unit in folder.units)
    num_shards = arguments.num_record_shards
    if num_shards is None:
        num_shards = num_shards_for(_num_bytes(folder), max(candidates, 1))
    rejects, shared, official = Rejects(), shared_provenance(settings), []
    try:
        writer = RecordWriter(folder.root / EXPORT, name=arguments.name, num_shards=num_shards, settings=settings,
                              provenance=run_provenance(settings))
    except ValueError as error:
        raise BadInput(str(error)) from error
    with writer:
        for generation, segmentation, judgement in _images(folder):
            try:
                record = _record(folder, generation, segmentation, judgement, rules,
                                 record_provenance(shared, generation))
                writer.write(record)
                _count_conversion(record, rejects)
                if arguments.official_jsonl is not None:
                    official.append(official_line(record, generation.image))
            except (Reject, SchemaError) as error:
                reject = error if isinstance(error, Reject) else Reject("schema_error", str(error))
                writer.reject(generation.index, reject.reason)
                rejects.add(generation.record_id, EXPORT, reject, index=generation.index,
                            candidate=generation.candidate)
        # Before the manifest: whoever finds that has the others too.
        if arguments.official_jsonl is not None:
            write_bytes(arguments.official_jsonl, b"".join(official))
        rejects.write(folder.root / "rejects" / f"{EXPORT}-00000-of-00001.jsonl")
        summary = {"prompts": len(folder.prompts), "candidates": candidates, "exported": writer.num_records,
                   "rejected": dict(sorted(rejects.reasons.items())),
                   "reject_rate": rejects.total / candidates if candidates else 0.0,
                   "warnings": dict(sorted(rejects.warnings.items())), "num_shards": num_shards,
                   "num_bytes": writer.num_bytes}
        write_json(folder.root / f"summary-{EXPORT}.json", summary)
        writer.close(num_prompts=len(folder.prompts))
    print(json.dumps(summary, indent=1))


def _official_lines(folder: RunFolder, rules: RecordRules) -> Iterator[bytes]:
    """Of records that were exported before."""
    for generation, segmentation, judgement in _images(folder):
        try:
            record = validate(_record(folder, generation, segmentation, judgement, rules, {}))
            yield official_line(record, generation.image)
        except (Reject, SchemaError):
            continue  # listed when it was exported


def _count_conversion(record: RewardRecord, rejects: Rejects) -> None:
    converted = read_header(record.image_encoded).converted_from
    if converted is not None:
        rejects.warnings[f"image_mode_{converted.replace(' ', '_')}_converted"] += 1


def _check_shape(out: epath.Path, arguments: argparse.Namespace) -> None:
    """Raises BadInput if the records that are there were asked for in other shards, or by another name."""
    manifest = read_manifest(out)
    for option, before, now in (("--name", manifest.name, arguments.name),
                                ("--num-record-shards", manifest.num_shards, arguments.num_record_shards)):
        if now is not None and now != before:
            raise BadInput(f"{option}: expected {before}, as {out} was exported with, found {now}. Move "
                                f"{out.name}/ away, or use another --out, to export again.")


def _already_there(out: epath.Path, settings: dict[str, Any], will_be_verified: bool) -> int:
    before = read_manifest(out).provenance or {}
    if "settings" in before:  # earlier versions wrote only their checksum
        noted.raise_differences(out / MANIFEST, before["settings"], settings,
                          f"Move {out.name}/ away, or use another --out, to export with other settings.")
    for path in restore_sidecars(out):
        print(f"{path}: was missing and was made again")
    if will_be_verified:
        print(f"{out}: exported before")
        return 0
    problems = print_problems(verify_records(out), out)
    if not problems:
        print(f"{out}: exported before; all checksums and counts hold")
    return int(problems > 0)


def _images(folder: RunFolder) -> Iterator[tuple[GenerationRecord, dict | None, dict]]:
    """What the three stages wrote of each image, in the order of prompts and candidates."""
    for place in tqdm(folder.places(), unit="image", disable=None):
        generation, segmentation, judgement = folder.lines_of(place)
        # Whole images are judged without regions.
        needed = {JUDGE: judgement, **({SEGMENT: segmentation} if (judgement or {}).get("mode") == "region" else {})}
        for stage, line in needed.items():
            if line is None:
                folder.lines(stage, folder.units[place.unit])  # which says what is to be run
        yield generation, segmentation, judgement


def _record(folder: RunFolder, generation, segmentation, judgement, rules: RecordRules, provenance) -> RewardRecord:
    if "rejected" in judgement:
        raise Reject(judgement["rejected"]["reason"], judgement["rejected"]["detail"])
    encoded, _ = folder.read_image(generation)
    whole = judgement["mode"] == "sample"
    return reward_record(folder.prompt(generation), generation, None if whole else segmentation, judgement,
                         encoded, rules, provenance)


def _num_bytes(folder: RunFolder) -> int:
    total = 0
    for unit in folder.units:
        for generation in folder.generated(unit):
            path = folder.root / GENERATE / generation.image
            total += path.stat().length if path.exists() else 0
    return total

