"""The authors' reply parser, quirks included, for reproducing their files.

Three kinds of reply: regions, the layout of the whole image, and one judgement of the whole image.
"""

import re
from typing import Any

_FIGURES = 1000  # of a number that are read: no region has so many, and Python's int refuses some thousands
_REGION = re.compile(r"Region ID:\s*(\d+)", re.IGNORECASE)
_OBJECT = re.compile(r"Identified Object:\s*(.*)", re.IGNORECASE)
_IMPRESSION = re.compile(r"Overall Impression:\s*(.*)", re.IGNORECASE)
_SCORE = re.compile(r"Score:\s*(-?\d+\.?\d*)", re.IGNORECASE)
_REASON = re.compile(r"Reason:\s*(.*)", re.IGNORECASE | re.DOTALL)
_ANALYSIS = re.compile(r"Composition Analysis:\s*(.*)", re.IGNORECASE | re.DOTALL)
_LEADING_REASON = re.compile(r"^\s*Reason:", re.IGNORECASE)


def official_regions(reply: str) -> dict[int, dict[str, Any]]:
    """Region number to what was found of "identified_object", "score" and "reason".

    Pieces are what empty lines separate, and only the first region of a piece is seen; a number that comes again
    replaces the earlier one whole. Scores are not checked.
    """
    regions: dict[int, dict[str, Any]] = {}
    for piece in _content(reply).split("\n\n"):
        head = _REGION.search(piece)
        if head is not None:
            regions[int(head[1][:_FIGURES])] = _fields(piece, _OBJECT)
    return regions


def official_layout(reply: str) -> dict[str, Any]:
    """"global_layout_score" with "reason", and "layout_analysis" where there is one; empty without a score."""
    content = _content(reply)
    found = {}
    analysis = _ANALYSIS.search(content)
    if analysis is not None:
        found["layout_analysis"] = analysis[1].strip()
    score = _SCORE.search(content)
    if score is not None:
        rest = content[score.end():].strip()
        found |= {"global_layout_score": float(score[1]), "reason": _LEADING_REASON.sub("", rest).strip()}
    return found


def official_sample(reply: str) -> dict[str, Any]:
    """Whatever is found of "identified_object" (the impression), "score" and "reason"."""
    return _fields(_content(reply), _IMPRESSION)


def _content(reply: str) -> str:
    return reply.rsplit("</think>", 1)[-1].strip()


def _fields(text: str, name: re.Pattern[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, pattern, convert in (
        ("identified_object", name, str.strip), ("score", _SCORE, float), ("reason", _REASON, str.strip),
    ):
        match = pattern.search(text)
        if match is not None:
            found[key] = convert(match[1])
    return found
