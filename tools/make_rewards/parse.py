"""Shows what is read of saved replies of a judge: try a judge of your own before it scores a run.

REPLIES.jsonl holds one JSON object a line:

    {"kind": "local", "num_regions": 2, "text": "REGION 1\\nOBJECT: a cat\\nSCORE: 0.5\\n..."}
    {"kind": "global", "text": "SCORE: 0.8\\nREASON: well placed", "id": "any name of yours"}

kind: the question that was asked: identify or local (num_regions: how many rectangles it listed), region, global or
sample. text: the whole reply, thoughts included. id: optional; without it a reply is named by its line.
"""

import argparse
import collections
import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

from etils import epath

from srum_jax.command_line import user_path
from srum_jax.errors import BadInput, Incomplete
from srum_jax.rewards.judgement.attempts import Reading
from srum_jax.rewards.judgement.judge_reply import ImageReply, ParsedFields, RegionReply
from srum_jax.rewards.judgement.readers import ImageReader, RegionReader
from srum_jax.rewards.judgement.settings import PRESETS, JudgeSettings
from srum_jax.storage.reading import json_lines
from tools.make_rewards.reject_rate import add_reject_argument

SUMMARY = "show what is read of saved replies of a judge"
_OF_REGIONS = {"identify": "object", "local": "score"}  # what such a reply has to say of each
_OF_IMAGES = ("region", "global", "sample")


@dataclasses.dataclass(frozen=True)
class SavedReply:
    """A line of the file."""

    name: str
    kind: str
    text: str
    num_regions: int  # 0 where the question listed none


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("replies", type=user_path, metavar="REPLIES.jsonl",
                        help="the saved replies, as described above")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="paper",
                        help="paper: this project's parser (default); official: the authors'")
    parser.add_argument("--json", action="store_true", help="print an object for each reply, and one for the totals")
    add_reject_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """The subcommand; returns the exit code."""
    settings = PRESETS[arguments.preset]
    totals: dict[str, Any] = {"replies": 0, "asked_again": 0, "scores": 0}
    statuses: collections.Counter[str] = collections.Counter()
    problems: collections.Counter[str] = collections.Counter()
    for saved in list(_read(epath.Path(arguments.replies))):  # a file with a bad line is refused before any is shown
        found = _found(saved, _reading(saved, settings))
        print(json.dumps(found) if arguments.json else _shown(found))
        totals["replies"] += 1
        totals["asked_again"] += "asked_again" in found
        totals["scores"] += sum(fields.get("score") is not None for fields in found["values"].values())
        statuses[f"{saved.kind} {found['status']}"] += 1
        problems.update(found["problems"])
    totals |= {"statuses": dict(sorted(statuses.items())), "problems": dict(sorted(problems.items()))}
    print(json.dumps({"totals": totals}) if arguments.json else
          "\n".join(f"{name}: {value}" for name, value in totals.items()))
    if totals["asked_again"] > arguments.max_reject_rate * totals["replies"]:
        raise Incomplete(f"{totals['asked_again']} of {totals['replies']} replies would be asked for again, more than "
                         f"--max-reject-rate {arguments.max_reject_rate} allows.")
    return 0


def _read(path: epath.Path) -> Iterator[SavedReply]:
    number = 0
    for number, entry in json_lines(path):
        yield _saved(entry, number, f"{path}:{number}")
    if not number:
        raise BadInput(f"{path}: expected a JSON object on each line, found no line.")


def _saved(entry: Any, number: int, where: str) -> SavedReply:
    if not isinstance(entry, dict):
        raise BadInput(f"{where}: expected an object, found {type(entry).__name__}.")
    kind, text, name = entry.get("kind"), entry.get("text"), entry.get("id", f"line {number}")
    if kind not in (*_OF_REGIONS, *_OF_IMAGES):
        raise BadInput(f"{where}: field 'kind': expected one of {', '.join((*_OF_REGIONS, *_OF_IMAGES))}, found "
                       f"{kind!r}.")
    for field, value in (("text", text), ("id", name)):
        if not isinstance(value, str):
            raise BadInput(f"{where}: field '{field}': expected a text, found {value!r}.")
    regions = entry.get("num_regions") if kind in _OF_REGIONS else 0
    if kind in _OF_REGIONS and (type(regions) is not int or regions < 1):
        raise BadInput(f"{where}: field 'num_regions': expected how many rectangles the question listed, found "
                       f"{regions!r}.")
    return SavedReply(name, kind, text, regions)


def _reading(saved: SavedReply, settings: JudgeSettings) -> Reading[RegionReply] | Reading[ImageReply]:
    if saved.kind in _OF_REGIONS:
        return RegionReader(saved.num_regions, settings, _OF_REGIONS[saved.kind]).read(saved.text)
    return ImageReader(settings, saved.kind).read(saved.text)


def _found(saved: SavedReply, reading: Reading[RegionReply] | Reading[ImageReply]) -> dict[str, Any]:
    """What is printed of one reply."""
    parsed = reading.parsed
    each = parsed.regions if isinstance(parsed, RegionReply) else {"image": parsed.fields}
    values = {str(place): said for place, fields in each.items() if (said := _said(fields))}
    found = {"id": saved.name, "kind": saved.kind, "status": str(parsed.status), "values": values,
             "problems": dict(sorted(parsed.problems.items()))}
    return found if reading.enough else {**found, "asked_again": reading.missing}


def _said(fields: ParsedFields) -> dict[str, Any]:
    said = {"score": fields.score.value, "severity": fields.severity.value, "object": fields.object or None,
            "keyword": fields.claim, "impression": fields.impression or None, "reason": fields.reason or None}
    return {name: value for name, value in said.items() if value is not None}


def _shown(found: dict[str, Any]) -> str:
    lines = [f"{found['id']} ({found['kind']}): {found['status']}"]
    for place, said in found["values"].items():
        values = ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in said.items())
        lines.append(f"  {place if place == 'image' else f'region {place}'}: {values}")
    if found["problems"]:
        lines.append("  problems: " + ", ".join(f"{name} {count}" for name, count in found["problems"].items()))
    if "asked_again" in found:
        lines.append(f"  would be asked for again: {found['asked_again']}")
    encoding = sys.stdout.encoding or "utf-8"
    return "\n".join(lines).encode(encoding, "backslashreplace").decode(encoding)
