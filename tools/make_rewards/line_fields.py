"""What a line of a stage after `generate` has to hold before anything reads it.

A chunk that was changed by hand may still be JSON. Lines are checked once, where they are read, so that nobody who uses
a field has to wonder whether it is there. Values that only the schema of records can judge, such as scores out of
range, are left to it.
"""

import reprlib
from collections.abc import Mapping
from typing import Any

from srum_jax.errors import BadInput

_NONE = type(None)
_NUMBER = (int, float)
_OPTIONAL_NUMBER = (int, float, _NONE)
_OPTIONAL_TEXT = (str, _NONE)

_Fields = Mapping[str, type | tuple[type, ...]]

_REGION: _Fields = {"area": int, "predicted_iou": _OPTIONAL_NUMBER, "stability": _OPTIONAL_NUMBER}
_JUDGED_REGION: _Fields = {
    **_REGION, "score": _NUMBER, "score_raw": _NUMBER, "severity": _NUMBER, "object": str, "reason": str,
    "keyword": _OPTIONAL_TEXT, "claim": _OPTIONAL_TEXT, "verdict": _OPTIONAL_TEXT, "flags": list,
}
_LAYOUT: _Fields = {"score": _NUMBER, "score_raw": _OPTIONAL_NUMBER, "reason": str, "flags": list}
_CALL: _Fields = {"kind": str, "attempt": int, "num_tokens": int, "finish_reason": str}
_QUESTION: _Fields = {"kind": str, "object": str, "text": str, "yes": _NUMBER}
_DROPPED: _Fields = {"verdict": _OPTIONAL_TEXT, "why": str}
_REJECTED: _Fields = {"reason": str, "detail": str}
_LINES: Mapping[str, _Fields] = {
    "segment": {"record_id": str, "provider": str, "regions": list, "num_found": int, "dropped": dict},
    "likelihood": {"record_id": str, "log_prob": _NUMBER},
    "judge": {
        "record_id": str, "mode": str, "identify_status": str, "local_status": str, "global_status": str,
        "attempts": list, "regions": list, "dropped": list, "missing_keywords": list, "global": (dict, _NONE),
        "calls": list, "problems": dict,
    },
}
_CHOICES = {"verdict": (None, "match", "background", "unmatched"), "global_status": ("absent", "ok", "unparsed"),
            "mode": ("region", "sample")}


def check_line(stage: str, line: Any) -> None:
    """Raises BadInput if a line of a stage cannot be used.

    Args:
      stage: "segment", "likelihood" or "judge".
      line: parsed JSON.
    """
    if not isinstance(line, dict):
        raise BadInput(f"expected an object, found {type(line).__name__}")
    if "rejected" in line:
        _check(line, {"record_id": str, "rejected": dict}, "")
        _check(line["rejected"], _REJECTED, "rejected.")
        return
    _check(line, _LINES[stage], "")
    for number, region in enumerate(line.get("regions", ())):
        _check(region, _REGION if stage == "segment" else _JUDGED_REGION, f"regions[{number}].")
        _check_integers(region.get("box"), 4, f"regions[{number}].box")
    if stage == "judge":
        _check_integers(line["attempts"], 3, "attempts")
        for number, region in enumerate(line["dropped"]):
            _check(region, _DROPPED, f"dropped[{number}].")
            _check_integers(region.get("box"), 4, f"dropped[{number}].box")
        for number, call in enumerate(line["calls"]):
            _check(call, _CALL, f"calls[{number}].")
        for number, question in enumerate(line.get("questions", ())):
            _check(question, _QUESTION, f"questions[{number}].")
        if line["global"] is not None:
            _check(line["global"], _LAYOUT, "global.")


def _check(fields: Any, kinds: _Fields, prefix: str) -> None:
    if not isinstance(fields, dict):
        raise BadInput(f"field '{prefix[:-1]}': expected an object, found {type(fields).__name__}")
    for name, kind in kinds.items():
        if name not in fields:
            raise BadInput(f"field '{prefix}{name}': expected {_named(kind)}, found no such field")
        value = fields[name]
        # In Python a truth value is an integer.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise BadInput(f"field '{prefix}{name}': expected {_named(kind)}, found {reprlib.repr(value)}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise BadInput(f"field '{prefix}{name}': expected one of {_CHOICES[name]}, found {reprlib.repr(value)}")


def _check_integers(numbers: Any, count: int, name: str) -> None:
    if not isinstance(numbers, list) or len(numbers) != count or not all(type(number) is int for number in numbers):
        raise BadInput(f"field '{name}': expected {count} integers, found {reprlib.repr(numbers)}")


def _named(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("null" if one is _NONE else one.__name__ for one in kinds)
