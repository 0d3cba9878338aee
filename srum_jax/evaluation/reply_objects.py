"""JSON inside the replies of judges, which put it into code fences and sentences."""

import json
import re
from collections.abc import Iterator
from typing import Any

_FENCE = re.compile(r"```[A-Za-z]*")
_DIGITS = re.compile(r'"score"\s*:\s*"?(\d+)(?!\d|\.\d)"?')
_DECIMAL = re.compile(r'"score"\s*:\s*"?(\d+(?:\.\d+)?)(?![\d.])"?')
_DECODER = json.JSONDecoder()


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, in order; what lies inside one is not looked at again."""
    text, place = _FENCE.sub("", text), 0
    while (place := text.find("{", place)) >= 0:
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        yield value


def hundred_point_score(text: str, *, decimals: bool) -> float | None:
    """The score of a reply, in [0, 100]; None if it states none (spec: evaluation, section 3.3).

    A JSON object with a number `score` counts, else the first `"score": digits`, quotes around the digits allowed.

    Args:
      text: of the judge.
      decimals: whether a number may have a fraction.
    """
    kinds = (int, float) if decimals else (int,)
    found = next((value["score"] for value in json_objects(text) if type(value.get("score")) in kinds), None)
    if found is None:
        match = (_DECIMAL if decimals else _DIGITS).search(_FENCE.sub("", text))
        if match is None:
            return None
        found = float(match[1])
    return float(found) if 0 <= found <= 100 else None
