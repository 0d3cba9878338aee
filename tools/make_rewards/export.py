"""Writes the records that training reads, from what `generate`, `segment` and `judge` have written.

Images that become no record are listed with the reason in OUT/rejects; the summary counts them. OUT/export holds the
shards. Given --official-jsonl, the authors' training format is written beside them.
"""

import argparse
import functools
import json
import sys
from collections.abc import Iterator
from typing import Any

from etils import epath
from tqdm import tqdm

import srum_jax
from srum_jax.data.atomic_file import atomic_write, write_json
from srum_jax.data.errors import SchemaError
from srum_jax.data.schema import RewardRecord
from srum_jax.data.writer import RecordWriter, num_shards_for
from tools.make_rewards.errors import ArgumentError, Reject, Rejects
from tools.make_rewards.judge import SEGMENT
from tools.make_rewards.judge import STAGE as JUDGE
from tools.make_rewards.official_format import official_entry
from tools.make_rewards.reward_record import OFFICIAL_RULES, PAPER_RULES, ExportRules, reward_record
from tools.make_rewards.stage_folder import GENERATE, STAGE_VERSION, RunFolder
from tools.make_rewards.verify import verify_records

SUMMARY = "write reward records from judged images"
STAGE = "export"
_PRESETS = {"paper": PAPER_RULES, "official": OFFICIAL_RULES}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder of the other stages")
    parser.add_argument("--name", default="srum-rewards", help="starts the file names (default: %(default)s)")
    parser.add_argument("--preset", choices=tuple(_PRESETS), default="paper",
                        help="where the following two start (default: %(default)s)")
    parser.add_argument("--global-zero", choices=("drop", "keep"), help="records whose global score is exactly 0 "
                        "(paper: keep, official: drop)")
    parser.add_argument("--no-region", choices=("drop", "keep"), help="records without any scored region "
                        "(paper: drop, official: keep)")
    parser.add_argument("--num-record-shards", type=int, metavar="N", help="default: by size, about 512 MiB each")
    parser.add_argument("--official-jsonl", metavar="FILE", help="write the authors' training format too")
    parser.add_argument("--max-reject-rate", type=float, default=0.2, metavar="SHARE",
                        help="exit with 3 if a larger share is rejected (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """The subcommand; returns the exit code."""
    if not 0 <= arguments.max_reject_rate <= 1:
        raise ArgumentError(f"--max-reject-rate: expected a share in [0, 1], found {arguments.max_reject_rate}.")
    folder = RunFolder(arguments.out)
    preset = _PRESETS[arguments.preset]
    rules = ExportRules(arguments.global_zero or preset.global_zero, arguments.no_region or preset.no_region)
    out = folder.root / STAGE
    if (out / "manifest.json").exists():
        return _already_there(out)
    candidates = sum(len(folder.lines(GENERATE, unit)) for unit in folder.units)
    num_shards = arguments.num_record_shards
    if num_shards is None:
        num_shards = num_shards_for(_num_bytes(folder), max(candidates, 1))
    rejects = Rejects()
    settings = {"rules": {"global_zero": rules.global_zero, "no_region": rules.no_region},
                "stages": _stage_settings(folder)}
    official: list[str] = []
    try:
        writer = RecordWriter(out, name=arguments.name, num_shards=num_shards, settings=settings,
                              provenance=_provenance(folder))
    except ValueError as error:
        raise ArgumentError(str(error)) from error
    with writer:
        for generation, segmentation, judgement in _images(folder):
            try:
                record = _record(folder, generation, segmentation, judgement, rules)
                writer.write(record)
                if arguments.official_jsonl is not None:
                    official.append(json.dumps(official_entry(record, generation["image"]), ensure_ascii=False))
            except Reject as reject:
                writer.reject(generation["index"], reject.reason)
                rejects.add(generation["record_id"], STAGE, reject)
            except SchemaError as error:
                writer.reject(generation["index"], "schema_error")
                rejects.add(generation["record_id"], STAGE, Reject("schema_error", str(error)))
        rejects.write(folder.root / "rejects" / f"{STAGE}-00000-of-00001.jsonl")
        if arguments.official_jsonl is not None:
            with atomic_write(arguments.official_jsonl) as file:
                file.write("".join(line + "\n" for line in official).encode())
        manifest = writer.close(num_prompts=candidates)
    share = rejects.total / candidates if candidates else 0.0
    summary = {"candidates": candidates, "exported": manifest.num_records,
               "rejected": dict(sorted(rejects.reasons.items())), "reject_rate": share,
               "num_shards": manifest.num_shards, "num_bytes": manifest.num_bytes}
    write_json(folder.root / f"summary-{STAGE}.json", summary)
    print(json.dumps(summary, indent=1))
    if share > arguments.max_reject_rate:
        print(f"error: {rejects.total} of {candidates} images became no record, more than --max-reject-rate "
              f"{arguments.max_reject_rate} allows; the reasons are in {folder.root / 'rejects'}", file=sys.stderr)
        return 3
    return 0


def _already_there(out: epath.Path) -> int:
    problems = list(verify_records(out))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{out}: exported before; " + (f"{len(problems)} problems" if problems else "all checksums and counts hold"))
    return 1 if problems else 0


def _images(folder: RunFolder) -> Iterator[tuple[dict, dict | None, dict]]:
    """What the three stages wrote of each image, in the order of prompts and candidates."""
    places = [(generation["index"], generation["candidate"], number, row)
              for number, unit in enumerate(folder.units)
              for row, generation in enumerate(folder.lines(GENERATE, unit))]

    # Neighbouring prompts lie in different shards: some units of every shard are at hand at any time.
    @functools.lru_cache(maxsize=4 * folder.files.num_shards)
    def lines(number: int) -> list[tuple[dict, dict | None, dict]]:
        unit = folder.units[number]
        judged = folder.lines(JUDGE, unit)
        segmented = folder.lines(SEGMENT, unit) if folder.chunk(SEGMENT, unit).exists() else [None] * len(judged)
        return list(zip(folder.lines(GENERATE, unit), segmented, judged, strict=True))

    for _, _, number, row in tqdm(sorted(places), unit="image", disable=None):
        yield lines(number)[row]


def _record(folder: RunFolder, generation, segmentation, judgement, rules: ExportRules) -> RewardRecord:
    if "rejected" in judgement:
        raise Reject(judgement["rejected"]["reason"], judgement["rejected"]["detail"])
    encoded, _ = folder.read_image(generation)
    provenance = _provenance(folder) | {
        "sampler": generation["sampler"], "seed": generation["seed"], "think": generation["think"],
    }
    whole = judgement["mode"] == "sample"
    return reward_record(folder.prompts[generation["index"]], generation, None if whole else segmentation, judgement,
                         encoded, rules, provenance)


def _provenance(folder: RunFolder) -> dict[str, Any]:
    return {"stage_version": STAGE_VERSION, "package_version": srum_jax.__version__, "imported": False,
            "stages": _stage_settings(folder)}


def _stage_settings(folder: RunFolder) -> dict[str, Any]:
    stages = {GENERATE: folder.settings}
    for stage in (SEGMENT, JUDGE):
        path = folder.root / f"run-{stage}.json"
        if path.exists():
            stages[stage] = json.loads(path.read_bytes())
    return stages


def _num_bytes(folder: RunFolder) -> int:
    total = 0
    for unit in folder.units:
        for generation in folder.lines(GENERATE, unit):
            path = folder.root / GENERATE / generation["image"]
            total += path.stat().length if path.exists() else 0
    return total

