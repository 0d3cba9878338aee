"""A score as a judge writes it. What is on another scale is refused, never rescaled."""

import dataclasses
import re

_TOLERANCE = 1e-6
_MARKS = re.compile(r"[\s*_#>`\[\](){}\"'\u201c\u201d\u2018\u2019]*")
_NUMBER = re.compile(r"([+\-\u2212\u2013]?)(\d+(?:\.\d*)?|\.\d+)")
_OUT_OF = re.compile(r"\s*(?:/|out\s+of)\s*(\d+(?:\.\d*)?|\.\d+)", re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:to\s+|(?:-|\u2212|\u2013|\.\.\.?)\s*)[+\-\u2212\u2013]?(?:\d|\.\d)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ParsedNumber:
    """A number, or why there is none."""

    value: float | None
    problem: str | None = None  # "no_number", "out_of_range", "is_a_range", "ambiguous_decimal"


def parse_score(text: str, low: float = -1.0, high: float = 1.0) -> ParsedNumber:
    """Reads the number at the start of a value.

    Markdown marks, brackets and quotes before it are skipped. "x/1" and "x out of 1" are x. Anything else in front,
    a range, a percentage, another denominator, or a comma as decimal sign gives no number.

    Args:
      text: what follows the label.
      low, high: the allowed range; beyond it by rounding only, the number is clipped.
    """
    start = _MARKS.match(text).end()
    number = _NUMBER.match(text, start)
    if number is None:
        return ParsedNumber(None, "no_number")
    rest = text[number.end():]
    if re.match(r",\d", rest):
        return ParsedNumber(None, "ambiguous_decimal")
    if _RANGE.match(rest):
        return ParsedNumber(None, "is_a_range")
    out_of = _OUT_OF.match(rest)
    if (out_of is not None and float(out_of[1]) != 1.0) or re.match(r"\s*%", rest):
        return ParsedNumber(None, "out_of_range")
    value = float(number[2]) * (-1.0 if number[1] and number[1] != "+" else 1.0)
    if not low - _TOLERANCE <= value <= high + _TOLERANCE:
        return ParsedNumber(None, "out_of_range")
    return ParsedNumber(min(max(value, low), high))
