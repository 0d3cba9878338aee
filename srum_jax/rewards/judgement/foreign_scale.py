"""Does a reply say of all its scores at once that they are on another scale than the asked one?"""

import re

_WORDS = "two|three|four|five|six|seven|eight|nine|ten|twenty|fifty|hundred"
_NUMBER = rf"((?<![\d.])[+\-\u2212\u2013]?(?:\d{{1,6}}(?:\.\d{{1,9}})?|\.\d{{1,9}})|zero|one|{_WORDS})"
_TO = r"\s*(?:to|and|through|bis|tot|\u0434\u043e|au?|-|\u2013|\u2014|~|\.\.\.?|\u81f3|\u5230|,)\s*"
_NAMES = r"scales?|ranges?|skala|schaal|escala|scala|\u00e9chelle|\u0448\u043a\u0430\u043b\w"
_FROM = r"of|from|between|von|van|de|da|\u043e\u0442|:|="
_SCALE = re.compile(
    rf"\b(?:(?:{_NAMES})\s*(?:is|goes|runs)?\s*(?:{_FROM})?|"
    rf"(?:scores?|scored|rat(?:e|ed|ings?))(?:\s+\w+){{0,3}}?\s+(?:of|from|between))"
    rf"\s*[(\[]?\s*{_NUMBER}{_TO}{_NUMBER}|(?<!\w){_NUMBER}{_TO}{_NUMBER}\s+scale\b", re.IGNORECASE)
_OUT_OF = re.compile(
    rf"\b(?:scor\w*|scales?|rat(?:e|ed|ings?)|marks?|graded?|g[ai]ve[ns]?|giving|gets?|deserves?|earns?)\b[^.:\n]{{0,40}}?\bout\s+of\s+{_NUMBER}|"
    rf"\b(?:max|maximum|highest|best|full|top)\s+(?:possible\s+)?(?:scores?|marks?|ratings?)"
    rf"\s*(?:is|of|=|:)?\s*{_NUMBER}|"
    rf"\b(?:out\s+of|scale|(?:max|maximum)(?:\s+\w+)?|denominator)\s*(?:[:=]|is\b)\s*{_NUMBER}(?!{_TO}{_NUMBER})|"
    rf"\bscale\s+of\s+{_NUMBER}(?!\d|{_TO}{_NUMBER})|"
    rf"{_NUMBER}\s*(?:=|means|being)\s*(?:the\s+)?(?:best|perfect|flawless|excellent|highest)\b|"
    rf"\u6ee1\u5206\s*(?:\u4e3a|\u662f|:|\uff1a)?\s*{_NUMBER}", re.IGNORECASE)
_ABOVE_ONE = re.compile(  # of these, numbers up to 1 are amounts of the asked scale
    rf"\b(?:best|highest|top|total|limit|upper\s+\w+)\s*[:=]\s*{_NUMBER}|"
    rf"\b(?:would|could|should)\s+(?:get|score|deserve|earn)\s+(?:an?\s+)?{_NUMBER}|"
    rf"(?<!region\s)(?<!rectangle\s)(?<!object\s){_NUMBER}\s*"
    r"(?:would\s+be|is|equals|stands\s+for)\s+(?:the\s+)?(?:best|perfect|flawless|excellent|highest)\b|"
    rf"\b(?:points?|stars?|marks?)\s+of\s+{_NUMBER}|\bnote\s+sur\s+{_NUMBER}", re.IGNORECASE)
_SYSTEM = re.compile(rf"\b(?:\d{{1,6}}|{_WORDS})[\s-]*(?:points?|stars?)[\s-]*(?:scale|system|rating)\b|"
                     rf"\b(?:scores?|ratings?)\s+(?:are\s+|is\s+)?(?:given\s+)?(?:in|as)\s+(?:an?\s+)?(?:%|per\s?cent)|"
                     r"\bunits?\s*[:=]\s*(?:%|per\s?cent|points?|stars?)|"
                     r"\d\s*(?:\u70b9\u6e80\u70b9|\uc810\s*\ub9cc\uc810)|"
                     r"(?:(?<!\d)\d{1,6}|[\u4e94\u5341\u767e])\s*\u5206\u5236", re.IGNORECASE)
_FRACTION = re.compile(r"(?<![\d/.])\d{1,3}(?:\.\d{1,9})?\s*/\s*(?:5|10|100)(?![\d/])")
_MARKS = re.compile(r"[*_`\"|]")
_VALUES = {"zero": 0.0, "one": 1.0}


def names_foreign_scale(text: str) -> bool:
    """Whether a text names a scale for scores that is neither -1 .. 1 nor that of severities, 0 .. 1.

    Args:
      text: an answer.
    """
    text = _MARKS.sub(" ", text)
    if _SYSTEM.search(text):
        return True
    for found in _OUT_OF.finditer(text):
        if _value(next(filter(None, found.groups()))) != 1.0:
            return True
    for found in _ABOVE_ONE.finditer(text):
        value = _value(next(filter(None, found.groups())))
        if value is None or value > 1.0:
            return True
    for found in _SCALE.finditer(text):
        low, high = (_value(number) for number in found.groups() if number is not None)
        line = text[text.rfind("\n", 0, found.start()) + 1 :].split("\n", 1)[0].lower()
        if (low, high) != (-1.0, 1.0) and not ((low, high) == (0.0, 1.0) and "severity" in line):
            return True
    return False


def marks_in_words(reason: str) -> bool:
    """Whether a reason gives a mark of its own on a scale to 5, 10 or 100: "1/10, nothing of it is right"."""
    return _FRACTION.search(reason) is not None


def _value(number: str) -> float | None:
    if number.lower() in _VALUES:
        return _VALUES[number.lower()]
    return float(number.replace("\u2212", "-").replace("\u2013", "-")) if number[-1].isdigit() else None
