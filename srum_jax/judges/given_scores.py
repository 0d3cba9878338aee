"""Scores that somebody else made: another judge, people, a rule.

One JSON line per image:

    {"record_id": "...", "regions": [{"box": [x0, y0, x1, y1], "score": 0.5, "object": "...", "reason": "..."}],
     "global": {"score": 0.8, "reason": "..."}}

Boxes are half-open pixels of the stored image. Only `record_id`, `box` and `score` are needed; `global` may be null.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from srum_jax.data.schema import is_unicode
from srum_jax.errors import BadInput
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.judge_record import Subject, judged_region, layout_score
from srum_jax.rewards.judgement.settings import JudgeSettings
from srum_jax.rewards.proposals import Proposal
from srum_jax.storage.reading import json_lines


class GivenScores:
    """Scores by record id, each in the form of a line of the file."""

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]):
        """Takes what has been checked."""
        self._entries = entries

    @classmethod
    def read(cls, path: epath.PathLike) -> "GivenScores":
        """Reads and checks a file.

        Raises:
          BadInput: naming the line, the field, what was expected and what was found.
        """
        path, entries = epath.Path(path), {}
        for number, entry in json_lines(path):
            where = f"{path}:{number}"
            record_id = _check(entry, where)
            if record_id in entries:
                raise BadInput(f"{where}: field 'record_id': {record_id!r} occurs twice.")
            entries[record_id] = entry
        return cls(entries)

    def judge(self, subject: Subject, settings: JudgeSettings) -> dict[str, Any]:
        """The judgement of one image, in the form of the other judges.

        A box that reaches beyond the image is clipped; one outside of it is dropped. An image that the file lacks has
        no scores.
        """
        entry = self._entries.get(subject.record_id, {})
        areas = {tuple(proposal.box): proposal for proposal in subject.proposals}
        regions, dropped = [], []
        for given in entry.get("regions", []):
            box = Box(*given["box"]).clip(subject.width, subject.height)
            if box.empty:
                dropped.append({"box": given["box"], "verdict": None, "why": "outside"})
                continue
            score = float(given["score"])
            regions.append(judged_region(areas.get(tuple(box)) or Proposal(box, box.area), score, score,
                                         object=given.get("object", ""), reason=given.get("reason", "")))
        given = entry.get("global")
        layout = given and layout_score(float(given["score"]), given.get("reason", ""), subject, settings)
        return {
            "record_id": subject.record_id, "mode": str(settings.mode), "identify_status": "skipped",
            "local_status": "ok" if regions else "skipped",
            "global_status": "ok" if layout else "absent", "attempts": [0, 0, 0], "regions": regions,
            "dropped": dropped, "missing_keywords": [], "global": layout or None,
            "calls": [], "problems": {} if entry else {"no_given_scores": 1},
        }


def _check(entry: Any, where: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("record_id"), str):
        raise BadInput(f"{where}: field 'record_id': expected the id of an image, found nothing of the kind.")
    regions = entry.get("regions", [])
    if not isinstance(regions, list):
        raise BadInput(f"{where}: field 'regions': expected a list, found {regions!r}.")
    for number, region in enumerate(regions):
        place = f"{where}: field 'regions[{number}]"
        box = region.get("box") if isinstance(region, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not all(type(corner) is int for corner in box):
            raise BadInput(f"{place}.box': expected four integers, found {box!r}.")
        _check_scored(region, place + ".")
    if entry.get("global") is not None:
        if not isinstance(entry["global"], dict):
            raise BadInput(f"{where}: field 'global': expected an object or null, found {entry['global']!r}.")
        _check_scored(entry["global"], f"{where}: field 'global.")
    return entry["record_id"]


def _check_scored(fields: Mapping[str, Any], place: str) -> None:
    score = fields.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not -1 <= score <= 1:
        raise BadInput(f"{place}score': expected a number in [-1, 1], found {score!r}.")
    for name in ("object", "reason"):
        if not isinstance(fields.get(name, ""), str):
            raise BadInput(f"{place}{name}': expected a text, found {fields[name]!r}.")
        if not is_unicode(fields.get(name, "")):
            raise BadInput(f"{place}{name}': expected valid Unicode, found {ascii(fields[name])[:80]}.")
