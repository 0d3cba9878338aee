"""Reads what a judge replied, whatever it did to the format that it was asked for.

    reply  = [ "<think>" text "</think>" ] answer
    answer = { "REGION" number, fields }    or    fields
    fields = { label ":" value },  label = OBJECT | KEYWORD | SCORE | SEVERITY | REASON | IMPRESSION

The same content may also come as JSON or as a Markdown table. Tolerance ends where a score could be another than the
judge meant: a number that is not plainly a score of the asked range, two that differ, a scale of the judge's own, or
regions that are numbered otherwise than asked are refused and counted, never rescaled, chosen or shifted.
"""

import collections
import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence

from srum_jax.rewards.judgement.foreign_scale import marks_in_words, names_foreign_scale
from srum_jax.rewards.judgement.reply_blocks import NUMERIC, Block
from srum_jax.rewards.judgement.reply_json import json_blocks
from srum_jax.rewards.judgement.reply_lines import image_block, region_blocks
from srum_jax.rewards.judgement.reply_table import table_blocks
from srum_jax.rewards.judgement.score_number import ParsedNumber, parse_score

_REASON_LENGTH = 2000  # characters kept
_THINK_START, _THINK_END = re.compile(r"<\s*think\s*>", re.IGNORECASE), re.compile(r"<\s*/\s*think\s*>", re.IGNORECASE)
_ABSENT = ParsedNumber(None, "no_number")
_FOREIGN_SCALE = ParsedNumber(None, "foreign_scale")
NUMBERED_OTHERWISE = "numbered_otherwise"  # the problem of a reply whose regions do not begin with 1


class ReplyStatus(enum.StrEnum):
    """What could be read of a reply."""

    OK = "ok"  # everything that was asked for
    PARTIAL = "partial"  # some of the regions
    NO_REGION = "no_region"  # none of them
    UNPARSED = "unparsed"  # no score for the image
    TRUNCATED = "truncated"  # cut off while still thinking


@dataclasses.dataclass(frozen=True)
class ParsedFields:
    """What one block, or a reply about the whole image, says."""

    object: str = ""
    claim: str | None = None  # of a keyword
    impression: str = ""
    score: ParsedNumber = _ABSENT
    severity: ParsedNumber = _ABSENT
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class RegionReply:
    """A reply about numbered regions."""

    status: ReplyStatus
    regions: Mapping[int, ParsedFields]  # those that have what was wanted
    problems: Mapping[str, int]  # how often what was refused


@dataclasses.dataclass(frozen=True)
class ImageReply:
    """A reply about the whole image."""

    status: ReplyStatus
    fields: ParsedFields
    problems: Mapping[str, int]


def parse_region_reply(reply: str, num_regions: int, *, wanted: str = "score", severity: bool = False) -> RegionReply:
    """Reads a reply about regions 1 .. n.

    Args:
      reply: the whole text.
      num_regions: n; other numbers are ignored, and counted.
      wanted: "score" for a judgement, "object" for an identification: what a region needs to count.
      severity: whether one was asked for; one that is missing or bad counts as a problem.
    """
    content = _after_thought(reply)
    if content is None:
        return RegionReply(ReplyStatus.TRUNCATED, {}, {})
    structured, rest = _structured(content)
    blocks = structured + region_blocks(rest)
    foreign = names_foreign_scale(f"{content}\n{rest}") or _leaves_range(blocks)
    problems: collections.Counter[str] = collections.Counter()
    regions: dict[int, ParsedFields] = {}
    seen: set[int] = set()
    for block in blocks:
        number = block.number
        if number is None or not 1 <= number <= num_regions:
            problems["unknown_region"] += 1
            continue
        if number in seen:
            problems["repeated_region"] += 1
        seen.add(number)
        fields = _fields(block.values, foreign)
        if severity and fields.severity.value is None:
            problems["bad_severity"] += 1
        if wanted == "score" and fields.score.value is None:
            problems[fields.score.problem] += 1
        elif wanted == "score" or fields.object or fields.claim is not None:
            regions[number] = fields
    if len(seen) < num_regions:
        problems["missing_region"] += num_regions - len(seen)
    if _numbered_otherwise({block.number for block in blocks if block.number is not None}, num_regions):
        problems[NUMBERED_OTHERWISE] += 1
        regions = {}
    status = (ReplyStatus.NO_REGION if not regions else
              ReplyStatus.OK if len(regions) == num_regions else ReplyStatus.PARTIAL)
    return RegionReply(status, dict(sorted(regions.items())), dict(problems))


def parse_image_reply(reply: str) -> ImageReply:
    """Reads a reply about the whole image: a score, a reason, and an impression where there is one."""
    content = _after_thought(reply)
    if content is None:
        return ImageReply(ReplyStatus.TRUNCATED, ParsedFields(), {})
    structured, rest = _structured(content)
    values = [value for block in (*structured, image_block(rest)) for value in block.values]
    fields = _fields(values, names_foreign_scale(f"{content}\n{rest}"))
    if fields.score.value is None:
        return ImageReply(ReplyStatus.UNPARSED, fields, {fields.score.problem: 1})
    return ImageReply(ReplyStatus.OK, fields, {})


def _after_thought(reply: str) -> str | None:
    """The answer with plain line ends, or None if the thought never ended."""
    ends = list(_THINK_END.finditer(reply))
    if not ends and _THINK_START.search(reply):
        return None
    answer = reply[ends[-1].end():] if ends else reply
    return answer.replace("\r\n", "\n").replace("\r", "\n")


def _structured(content: str) -> tuple[list[Block], str]:
    """The blocks of JSON and tables, and the text without them."""
    blocks, rest = json_blocks(content)
    rows, rest = table_blocks(rest)
    return blocks + rows, rest


def _leaves_range(blocks: Sequence[Block]) -> bool:
    """Whether some score or severity is of another scale: then a 1 beside it may be the worst there is."""
    return any(name in NUMERIC and parse_score(value).problem == "out_of_range"
               for block in blocks for name, value in block.values)


def _numbered_otherwise(numbers: set[int], num_regions: int) -> bool:
    """Whether a count began elsewhere than at 1: every score would go to another region's rectangle."""
    return 0 in numbers or (1 not in numbers and any(number > num_regions for number in numbers))


def _fields(values: Sequence[tuple[str, str]], foreign: bool) -> ParsedFields:
    """What labels say. The first of several texts counts; of several numbers none does, unless they are equal."""
    texts: dict[str, str] = {}
    for name, value in values:
        texts.setdefault(name, value)
        foreign = foreign or (name == "reason" and marks_in_words(value))
    return ParsedFields(
        object=texts.get("object", ""),
        claim=texts.get("keyword"),
        impression=texts.get("impression", ""),
        score=_number([parse_score(value) for name, value in values if name == "score"], foreign),
        severity=_number([parse_score(value, low=0.0) for name, value in values if name == "severity"], foreign),
        reason=texts.get("reason", "")[:_REASON_LENGTH],
    )


def _number(found: Sequence[ParsedNumber], foreign: bool) -> ParsedNumber:
    if not found:
        return _ABSENT
    if len(set(found)) > 1:
        return ParsedNumber(None, "several_numbers")
    return _FOREIGN_SCALE if foreign and found[0].value is not None else found[0]
