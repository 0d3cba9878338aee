"""Reads what a judge replied, whatever it did to the format that it was asked for.

    reply  = [ "<think>" text "</think>" ] answer
    answer = { "REGION" number, fields }    or    fields
    fields = { label ":" value },  label = OBJECT | KEYWORD | SCORE | SEVERITY | REASON | IMPRESSION

Markdown, bullets, rules, blank lines, CRLF, full-width colons and longer labels ("Identified Object", "Layout Score")
are no obstacle. A number that is not plainly a score in range is none: it is refused, counted, and never rescaled.
"""

import collections
import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping

from srum_jax.rewards.judgement.score_number import ParsedNumber, parse_score

_REASON_LENGTH = 2000  # characters kept
_THINK_START, _THINK_END = re.compile(r"<\s*think\s*>", re.IGNORECASE), re.compile(r"<\s*/\s*think\s*>", re.IGNORECASE)
_MARKS = re.compile(r"[*_#>`]")
_BULLET = re.compile(r"^\s*(?:(?:[-+\u2022\u2013\u2014]|\d{1,3}[.)])\s+)*")
_RULE = re.compile(r"^[\s\-=~\u2014\u2013]*$")
_HEAD = re.compile(
    r"^[\s\[(]*region\s*(?:id|no\.?|number)?\s*[:=]?\s*#?\s*(\d{1,9})(?!\d)[\s\])]*[:.,;\-]?\s*", re.IGNORECASE
)
_LABEL = re.compile(
    r"^(?:[^\W\d_][\w'-]*[ \t]+){0,2}(object|keyword|score|severity|reason|impression)\s*[:=]\s*(.*)$", re.IGNORECASE
)


_ABSENT = ParsedNumber(None, "no_number")


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
    problems: collections.Counter[str] = collections.Counter()
    regions: dict[int, ParsedFields] = {}
    seen: set[int] = set()
    for number, lines in _blocks(content):
        if not 1 <= number <= num_regions:
            problems["unknown_region"] += 1
            continue
        if number in seen:
            problems["repeated_region"] += 1
        seen.add(number)
        fields = _fields(lines, reason_to_end=False)
        if severity and fields.severity.value is None:
            problems["bad_severity"] += 1
        if wanted == "score" and fields.score.value is None:
            problems[fields.score.problem] += 1
        elif wanted == "score" or fields.object or fields.claim is not None:
            regions[number] = fields
    status = (ReplyStatus.NO_REGION if not regions else
              ReplyStatus.OK if len(regions) == num_regions else ReplyStatus.PARTIAL)
    return RegionReply(status, dict(sorted(regions.items())), dict(problems))


def parse_image_reply(reply: str) -> ImageReply:
    """Reads a reply about the whole image: a score, a reason, and an impression where there is one."""
    content = _after_thought(reply)
    if content is None:
        return ImageReply(ReplyStatus.TRUNCATED, ParsedFields(), {})
    fields = _fields(content.split("\n"), reason_to_end=True)
    if fields.score.value is None:
        return ImageReply(ReplyStatus.UNPARSED, fields, {fields.score.problem: 1})
    return ImageReply(ReplyStatus.OK, fields, {})


def _after_thought(reply: str) -> str | None:
    """The answer with plain line ends and colons, or None if the thought never ended."""
    ends = list(_THINK_END.finditer(reply))
    if not ends and _THINK_START.search(reply):
        return None
    answer = reply[ends[-1].end():] if ends else reply
    return answer.replace("\r\n", "\n").replace("\r", "\n").replace("\uff1a", ":")


def _blocks(content: str) -> Iterator[tuple[int, list[str]]]:
    """Region numbers and the lines that belong to them, in order of appearance."""
    number, lines = None, []
    for line in content.split("\n"):
        plain = _plain(line)
        head = _HEAD.match(plain)
        if head is None:
            lines.append(line)
            continue
        if number is not None:
            yield number, lines
        number, lines = int(head[1]), [plain[head.end():]]
    if number is not None:
        yield number, lines


def _fields(lines: list[str], reason_to_end: bool) -> ParsedFields:
    values: dict[str, str] = {}
    for place, line in enumerate(lines):
        label = _LABEL.match(_plain(line))
        if label is None or label[1].lower() in values:
            continue
        name, value = label[1].lower(), label[2].strip()
        following = lines[place + 1 :]
        if name == "reason" and reason_to_end:
            value = "\n".join([value, *following]).strip()
        elif not value:
            value = _value_below(following)
        values[name] = value
    return ParsedFields(
        object=values.get("object", ""),
        claim=values.get("keyword"),
        impression=values.get("impression", ""),
        score=parse_score(values.get("score", "")),
        severity=parse_score(values.get("severity", ""), low=0.0),
        reason=values.get("reason", "")[:_REASON_LENGTH],
    )


def _value_below(lines: list[str]) -> str:
    """The next line that says something, unless it begins something else."""
    for line in lines:
        if _RULE.match(_MARKS.sub("", line)):
            continue
        plain = _plain(line)
        # The line as it stands: taking a bullet from "- 0.5" would turn its sign.
        return "" if _LABEL.match(plain) or _HEAD.match(plain) else _MARKS.sub("", line).strip()
    return ""


def _plain(line: str) -> str:
    """A line without marks and bullets."""
    return _BULLET.sub("", _MARKS.sub("", line)).strip()
