"""What a reply is made of, in whichever notation: blocks of labelled values, and the names that labels go by."""

import dataclasses
import re
from collections.abc import Sequence

NUMERIC = ("score", "severity")
_LABEL = r"(object|keyword|score|severity|reason|impression)"
# A number is plainly the asked one only under its own name; "Confidence Score" and "Max Score" are others.
_QUALIFIERS = frozenset("final overall layout global local composition spatial arrangement region regional image "
                        "picture object sample reward judge judgement judgment distortion the".split())
_NAME = re.compile(rf"((?:[^\W\d_][\w'-]*[ \t]+){{0,2}}){_LABEL}", re.IGNORECASE)
_OWN_RANGE = re.compile(
    r"\s*[(\[](?:from\s+)?[-\u2212\u2013]1(?:\.0)?\s*(?:to|,|\.\.)\s*\+?1(?:\.0)?[)\]]$", re.IGNORECASE
)
_REGION = re.compile(r"region(?:[ _]?(?:id|no\.?|number))?", re.IGNORECASE)
_NUMBERS = frozenset(("#", "id", "no", "no.", "number", "rectangle"))  # the questions speak of rectangles
_NUMBER = re.compile(r"\s*(?:(?:region|rectangle)[\s_]*)?(?:id\s*:?\s*)?#?\s*(\d{1,9})\s*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Block:
    """What a reply says of one region, or of the whole image."""

    number: int | None  # of the region; None where none is named, or not plainly one
    values: tuple[tuple[str, str], ...]  # label in lower case and what stands behind it, in order of appearance


def label_of(name: str) -> str | None:
    """The label that a name means: "Layout Score" and "layout_score" are "score"; None for every other name."""
    found = _NAME.fullmatch(_OWN_RANGE.sub("", name.replace("_", " ").strip()))
    if found is None:
        return None
    label = found[2].lower()
    if label in NUMERIC and not set(found[1].lower().split()) <= _QUALIFIERS:
        return None
    return label


def number_of(values: Sequence[tuple[str, str]]) -> int | None:
    """The number of the region that names and values speak of, by "Region" before "id" or "#"; None if not plain."""
    regions = {region_number(value) for name, value in values if _REGION.fullmatch(name.strip())}
    regions = regions or {region_number(value) for name, value in values if is_number_label(name)}
    return regions.pop() if len(regions) == 1 else None


def is_number_label(name: str) -> bool:
    """Whether a name announces the number of a region."""
    return _REGION.fullmatch(name.strip()) is not None or name.strip().lower() in _NUMBERS


def region_number(text: str) -> int | None:
    """The number in "2", "Region 2" or "#2"; None in anything else."""
    found = _NUMBER.fullmatch(text)
    return None if found is None else int(found[1])
