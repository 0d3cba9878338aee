"""A score as a judge writes it: plainly a number of the asked range, or none. Nothing is rescaled or guessed.

    value = number [scale] [remark]
    scale = "/1" | "out of 1" | "(on a scale from -1 to 1)"     the asked range's own end or ends, in brackets or not
    remark = words behind a comma, a stop, a dash or in a bracket

A judge that was asked for -1 .. 1 may still answer on a scale of its own, and "1 (out of 10)" looks like the best
score there is. So what stands behind a number is not searched for scales, it is refused unless it plainly says nothing
about the number: no sign or figure, no word for a number or a unit; and behind -1, 0 or 1, which are at home on many
scales, only words that mean that very end.
"""

import dataclasses
import re
import unicodedata

_TOLERANCE = 1e-6
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " "}
_PAIRS = {"[": "]", "(": ")", "{": "}", '"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
_EMPHASIS = "*_`"
_OPENING = re.compile(rf"[\s{_EMPHASIS}{re.escape(''.join(_PAIRS))}]*")
_SIGN = "[+\\-\u2010-\u2013\u2212\ufe63]"  # an em dash may as well be a mark of punctuation
_FIGURES = r"(?:\d+(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(rf"({_SIGN}?)({_FIGURES})")
_DECIMAL_COMMA = re.compile(r",\d")
_RANGE = re.compile(rf"\s*(?:(?:to|through)\s+|(?:[-\u2010-\u2015\u2212~\u301c\u81f3\u5230]|\.\.\.?|\u2026)\s*)"
                    rf"{_SIGN}?{_FIGURES}", re.IGNORECASE)
_OTHER_SCALE = re.compile(rf"[\s{_EMPHASIS}(]*(?:[%\u2030\u066a\ufe6a]|per\s*cent|(?:/|\u2044|\u2215|out\s+of|of|over)"
                          rf"[\s{_EMPHASIS}(]*{_SIGN}?{_FIGURES})", re.IGNORECASE)
_REMARK = re.compile(r"(?:\s*[(,;:.!\u3002\u3001]|\s+[-\u2010-\u2015]+\s)\s*(.*)", re.DOTALL)
_REMARK_MARKS = frozenset(" \t'\u2019\"\u201c\u201d-\u2010\u2011\u2013\u2014,.;:()!\u3002\u3001")
_UNITS = frozenset("\u5206\u70b9\u9ede\u661f\u5236\u7ea7\u7d1a\u6210")  # points, stars, grades, tenths
_CHANGES_MEANING = re.compile(r"""\b(?:
    zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|
    (?:twen|thir|for|fif|six|seven|eigh|nine)ty|tens|hundreds?|thousands?|millions?|dozen|half|halves|quarters?|thirds?|
    (?:four|fif|six|seven|eigh|nin|ten|hundred|thousand|million)ths?|out|per|per\s?cent\w*|pct|percentiles?|points?|pts?|stars?|
    marks?|grades?|scaled?|scales|scoring|max|maximum|min|minimum|rat(?:ed|ing|ings)|rank\w*|range|times|minus|
    negative|plus|divided|or|at\s+least|at\s+most|worst|lowest|instead|rather|actually|wait|sorry|correction|corrected|
    (?:higher|larger|greater|lower|smaller)(?:\s+(?:is|means)|$)|invert\w*|normali[sz]ed|converted|before|penalt(?:y|ies)|
    average|mean|median|sum|total|weighted|confidence|probability|likelihood|similarity|distance|loss|errors?|badness|
    (?<!['\u2019])[b-hj-z]
    )\b""", re.IGNORECASE | re.VERBOSE)
_COMMON = frozenset("a an the and as to of with in is it very exactly completely entirely fully prompt request".split())
_WORDS_OF_ENDS = {
    1.0: frozenset("perfect perfectly flawless excellent ideal exact match matches matching full best correct complete "
                   "asked requested fits everything".split()),
    0.0: frozenset("neutral neither good nor bad harmless background setting indifferent".split()),
    -1.0: frozenset("contradiction contradicts contradictory opposite reversed against works wrong".split()),
}


@dataclasses.dataclass(frozen=True)
class ParsedNumber:
    """A number, or why there is none."""

    value: float | None
    problem: str | None = None  # "no_number", "out_of_range", "is_a_range", "ambiguous_decimal", "unclear_number", ...


def parse_score(text: str, low: float = -1.0) -> ParsedNumber:
    """Reads a value that is a number, possibly with its own scale and a harmless remark.

    Emphasis, brackets and quotes around it are skipped, full-width characters are those that they stand for.

    Args:
      text: what follows the label.
      low: the least allowed number, as 1 is the greatest; beyond them by rounding only, the number is clipped.

    Returns:
      The number, or "no_number" (none at the start), "out_of_range" (too large, or another scale behind it),
      "is_a_range", "ambiguous_decimal" (a comma), "unclear_number" (anything else behind it).
    """
    text = text.translate(_FULL_WIDTH)
    opening = _OPENING.match(text)[0]
    number = _NUMBER.match(text, len(opening))
    if number is None:
        return ParsedNumber(None, "no_number")
    rest = text[number.end():]
    if _DECIMAL_COMMA.match(rest):
        return ParsedNumber(None, "ambiguous_decimal")
    if _RANGE.match(rest):
        return ParsedNumber(None, "is_a_range")
    value = float(number[2]) * (-1.0 if number[1] not in ("", "+") else 1.0)
    if not low - _TOLERANCE <= value <= 1.0 + _TOLERANCE:
        return ParsedNumber(None, "out_of_range")
    value = min(max(value, low), 1.0) + 0.0  # without the sign of a zero
    rest, scaled = _without_scale(rest, low)
    rest = _closed(rest, opening)
    if rest is not None and not scaled:
        rest, scaled = _without_scale(rest, low)
    if rest is not None and _says_nothing(rest, None if scaled else value, low):
        return ParsedNumber(value)
    return ParsedNumber(None, "out_of_range" if rest and _OTHER_SCALE.match(rest) else "unclear_number")


def _without_scale(rest: str, low: float) -> tuple[str, bool]:
    """What follows the asked range's own end or ends, and whether they stood there."""
    end = r"1(?:\.0+)?(?![\d.,]*\d)"
    start = rf"{_SIGN if low < 0 else ''}{abs(low):g}(?:\.0+)?"
    ends = rf"{start}\s*(?:to|and|,|\.\.\.?|~|[-\u2010-\u2015])\s*\+?{end}"
    alone = rf"(?:/|out\s+of|of|\u6ee1\u5206(?:\u4e3a|\u662f|:)?)\s*{end}\u5206?"
    both = (rf"(?:(?:on|in)\s+)?(?:(?:a|the)\s+)?(?:scale|range|interval)?\s*(?:of|from|between|in|:)?\s*"
            rf"[\[(]?{ends}[\])]?")
    found = re.match(rf"[\s{_EMPHASIS}]*(?:{alone}|\(\s*(?:{alone}|{both})\s*\)|\[\s*{ends}\s*\]|"
                     rf"(?:on|in)\s+{both})(?!\w)", rest, re.IGNORECASE)
    return (rest, False) if found is None else (rest[found.end():], True)


def _closed(rest: str, opening: str) -> str | None:
    """What follows the brackets and quotes that close the opened ones; None if one stays open."""
    for bracket in reversed([mark for mark in opening if mark in _PAIRS]):
        rest = rest.lstrip(f" \t{_EMPHASIS}")
        if not rest.startswith(_PAIRS[bracket]):
            return None
        rest = rest[1:]
    return rest


def _says_nothing(rest: str, bare: float | None, low: float) -> bool:
    """Whether what stands behind a number leaves it what it is.

    Args:
      rest: with nothing of the number in it.
      bare: the number where no scale was named with it.
      low: end of the asked range; an amount of 0 is 0 on every scale that begins there.
    """
    marks = f" \t\n{_EMPHASIS}"
    if not rest.strip(f"{marks}.,;!\u3002"):
        return True
    remark = _REMARK.fullmatch(rest.lstrip(_EMPHASIS).rstrip())
    if remark is None:
        return False
    said = re.sub(rf"[{_EMPHASIS}]", " ", remark[1])
    if not all(character in _REMARK_MARKS or (unicodedata.category(character)[0] in "LM" and character not in _UNITS
               and unicodedata.numeric(character, None) is None) for character in said):
        return False
    if _CHANGES_MEANING.search(said):
        return False
    if bare not in _WORDS_OF_ENDS or bare == low == 0.0:
        return True
    words, meaning = set(re.findall(r"[^\W\d_]+", said.lower())), _WORDS_OF_ENDS[bare]
    return words <= _COMMON | meaning and bool(words & meaning)
