"""Replies in lines: heads of regions, and labels with their values behind or below them.

Markdown, bullets, rules, blank lines, full-width signs and longer labels ("Identified Object") are no obstacle.
"""

import re

from srum_jax.rewards.judgement.reply_blocks import NUMERIC, Block, label_of

_MARKS = re.compile(r"[*_#>`]")
_BULLET = re.compile(r"^[\s>#]*(?:(?:[-+\u2022\u2013\u2014]|\d{1,3}[.)])\s+)*")
_RULE = re.compile(r"^[\s\-=~\u2014\u2013]*$")
_LABEL = re.compile(
    r"^[\s*_`]*((?:[^\W\d_][\w'-]*[ \t]+){0,2}[a-z]+)[\s*_`]*[:=\uff1a\uff1d][*_`]*\s*(.*)$", re.IGNORECASE
)
_HEAD = re.compile(
    r"^[\s\[(]*(?:region(?![a-z])|rectangle(?=\s*[#\d]))\s*(?:id|no\.?|number)?\s*[:=\uff1a]?\s*[#\uff03]?\s*(.*)$",
    re.IGNORECASE)
_NUMBERED = re.compile(r"(\d{1,9})(?!\d)[\s\])]*(.*)$")
_MORE_NUMBERS = re.compile(r"[\s:.,;/&+~\-\u2013\u2014]*(?:and|to|or|through)?[\s#]*\d", re.IGNORECASE)
_ZERO = re.compile(r"zero\b[\s:.\])]*", re.IGNORECASE)
_NO_NUMBER = re.compile(r"(?:[-\u2212\u2013]?\d.*|[^\W\d_]+[\s:.\])]*)$")  # "-1", "1.5", "two"
_CONTINUED = re.compile(  # a number, on the line below
    r"\s*(?:[(/%\u2044\u2215\uff0f\uff05\[]|"
    r"(?:out(?:\s+of|\s*$)|per|per\s?cent|points?|stars?|max(?:imum)?(?!\w*\s*:))\b|"
    r"on\s+(?:a|the)\s+scale|[\u5206\u70b9\u9ede\u661f\uc810]|"
    r"(?:[^\w\s]+|of|from|in|to|or|over)\s*(?:\d|five\b|ten\b|a?\s*hundred\b)|[\d.,]+\s*$|(?:five|ten|hundred)\s*$)",
    re.IGNORECASE
)
_REASON_BEHIND = re.compile(r"[\s.,;|*_`]+(?:reason)[\s*_`]*[:=\uff1a]\s*", re.IGNORECASE)


def region_blocks(content: str) -> list[Block]:
    """The blocks of regions in order of appearance. A head that names no single region has a block without number."""
    blocks: list[Block] = []
    number, lines, headed = None, [], False
    for line in content.split("\n"):
        head = _head(line)
        if head is None:
            lines.append(line)
            continue
        if headed:
            blocks.append(Block(number, _values(lines)))
        (number, rest), headed = head, True
        lines = [rest]
    if headed:
        blocks.append(Block(number, _values(lines)))
    return blocks


def image_block(content: str) -> Block:
    """All that is labelled; a reason goes on to the end."""
    return Block(None, _values(content.split("\n"), reason_to_end=True))


def _head(line: str) -> tuple[int | None, str] | None:
    """The number that the head of a block names and what follows it; None if the line is no head."""
    head = _HEAD.match(_BULLET.sub("", _MARKS.sub("", line)).strip())
    if head is None:
        return None
    if _ZERO.fullmatch(head[1]):
        return 0, ""
    numbered = _NUMBERED.match(head[1])
    if numbered is None:
        return (None, "") if _NO_NUMBER.match(head[1]) else None
    rest = numbered[2]
    attached = head[1][numbered.end(1) :][:1]
    if _MORE_NUMBERS.match(rest) or attached.isalpha():
        return None, ""
    if rest and rest[0] not in ":.;-\u2013\u2014(|\uff1a" and _label(rest) is None:
        return None  # a sentence about a region: "Region 1 hides the horse."
    return int(numbered[1]), rest.lstrip(" :.,;-\u2013\u2014\uff1a")


def _label(line: str) -> tuple[str, str] | None:
    """A label and what stands behind it."""
    found = _LABEL.match(_BULLET.sub("", line).replace("\t", " "))
    name = None if found is None else label_of(found[1])
    return None if name is None else (name, found[2].strip())


def _values(lines: list[str], reason_to_end: bool = False) -> tuple[tuple[str, str], ...]:
    values: list[tuple[str, str]] = []
    for place, line in enumerate(lines):
        labelled = _label(line)
        if labelled is None:
            continue
        name, value = labelled
        following = lines[place + 1 :]
        if name in NUMERIC:
            # The number parser decides what the marks around a number mean.
            value, *reason = _REASON_BEHIND.split(value, maxsplit=1)
            if not value:
                value, following = _value_below(following)
            below = next((_BULLET.sub("", rest) for rest in following if not _RULE.match(_MARKS.sub("", rest))), "")
            if _CONTINUED.match(below):
                value = f"{value} {below.strip()}"
            values.append((name, value))
            values += [("reason", "\n".join([rest, *following]) if reason_to_end else rest) for rest in reason]
            continue
        if name == "reason" and reason_to_end:
            value = "\n".join([value, *following]).strip()
        elif not _MARKS.sub("", value).strip():
            value = _value_below(following)[0]
        values.append((name, _MARKS.sub("", value).strip() if name != "reason" or not reason_to_end else value))
    return tuple(values)


def _value_below(lines: list[str]) -> tuple[str, list[str]]:
    """The next line that says something, unless it begins something else, and the lines below it."""
    for place, line in enumerate(lines):
        if not _RULE.match(_MARKS.sub("", line)):
            # The line as it stands: taking a bullet from "- 0.5" would turn its sign.
            return ("", lines) if _label(line) or _head(line) else (line.strip(), lines[place + 1 :])
    return "", lines
