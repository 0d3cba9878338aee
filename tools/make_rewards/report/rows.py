"""From what the stages wrote of an image to what the page holds of it.

A row is read when the page opens: everything that filters, sorting and cards need. The rest is read when an image is
looked at. Fields that are absent, null, empty or false are left out.
"""

from collections.abc import Mapping
from typing import Any

from srum_jax.generation.prompts import Prompt
from srum_jax.stages.folder import DamagedError
from tools.make_rewards.report.collect import Candidate
from tools.make_rewards.report.maps import TokenMap, encode, short

_REGION_FIELDS = ("object", "claim", "keyword", "reason", "flags", "severity", "area", "predicted_iou", "stability")
_CALL_FIELDS = ("kind", "attempt", "num_tokens", "finish_reason")


def row(candidate: Candidate, prompt: Prompt) -> dict[str, Any]:
    """What the page knows of an image from the start.

    Raises:
      DamagedError: a score is out of range.
    """
    generation, segmentation, judgement = candidate.generation, candidate.segmentation, candidate.judgement
    entry = {
        "id": generation.record_id, "index": generation.index, "candidate": generation.candidate,
        "prompt": prompt.prompt, "category": prompt.category, "directive": prompt.has_directive,
        "width": generation.width, "height": generation.height, "state": _state(candidate),
        "rejected": candidate.rejected,
    }
    if judgement is not None and "rejected" not in judgement:
        entry |= _judged(judgement)
    elif segmentation is not None and "rejected" not in segmentation:
        entry["proposals"] = [region["box"] for region in segmentation["regions"]]
    if segmentation is not None and "rejected" not in segmentation:
        entry["found"] = segmentation["num_found"]
    entry["tags"] = _tags(entry)
    return _without_empty(entry)


def more(
    candidate: Candidate, prompt: Prompt, maps: Mapping[str, TokenMap], shares: Mapping[str, float | None],
    reply_characters: int,
) -> dict[str, Any]:
    """What the page reads when an image is looked at.

    Args:
      candidate: the image.
      prompt: of the image.
      maps: by variant; empty if it was not judged.
      shares: of tokens with a negative factor, by variant.
      reply_characters: longer replies are cut, and the page says so.
    """
    generation, judgement = candidate.generation, candidate.judgement
    entry = {
        "keywords": list(prompt.keywords), "source": prompt.source_id, "seed": str(generation.seed),
        "think": generation.think_text, "think_truncated": generation.think_truncated,
        "detailed": generation.detailed_prompt,
        "maps": {name: {**encode(found.R), "alpha": None if found.alpha is None else short(found.alpha),
                        "negative": shares[name]} for name, found in maps.items()},
    }
    if judgement is not None and "rejected" not in judgement:
        entry["attempts"] = judgement["attempts"]
        entry["problems"] = judgement["problems"]
        entry["calls"] = [_call(call, reply_characters) for call in judgement["calls"]]
        entry["questions"] = list(judgement.get("questions", ()))
    return _without_empty(entry)


def _state(candidate: Candidate) -> str:
    if candidate.rejected is not None:
        return "rejected"
    if candidate.exported:
        return "exported"
    if candidate.judgement is not None:
        return "judged"
    return "generated" if candidate.segmentation is None else "segmented"


def _judged(judgement: Mapping[str, Any]) -> dict[str, Any]:
    layout, record_id = judgement["global"], judgement["record_id"]
    entry = {
        "mode": judgement["mode"],
        "status": {kind: judgement[f"{kind}_status"] for kind in ("identify", "local", "global")},
        "regions": [_region(region, record_id) for region in judgement["regions"]],
        "dropped": [_without_empty({"box": item["box"], "verdict": item["verdict"], "why": item["why"]})
                    for item in judgement["dropped"]],
        "missing": judgement["missing_keywords"],
        "problems": judgement["problems"],
    }
    if layout is not None:
        entry["global"] = {"score": _score(layout["score"], record_id), "raw": layout["score_raw"],
                           **_without_empty({"reason": layout["reason"], "flags": layout["flags"]})}
    return entry


def _region(region: Mapping[str, Any], record_id: str) -> dict[str, Any]:
    fields = {"box": region["box"], "score": _score(region["score"], record_id),
              "raw": region["score_raw"], "verdict": region["verdict"] or "not verified"}
    return fields | _without_empty({name: region[name] for name in _REGION_FIELDS})


def _score(value: float, record_id: str) -> float:
    if not -1 <= value <= 1:
        raise DamagedError(f"{record_id}: score: expected a number in [-1, 1], found {value!r}; a chunk was changed "
                           "after it was written. `judge --repair` makes it again.")
    return value


def _call(call: Mapping[str, Any], reply_characters: int) -> dict[str, Any]:
    entry = {name: call[name] for name in _CALL_FIELDS}
    text = call.get("text")  # absent after `judge --no-keep-raw`
    if text is not None:
        entry["text"] = text[:reply_characters]
        entry["cut"] = max(0, len(text) - reply_characters)
    return entry


def _tags(entry: Mapping[str, Any]) -> list[str]:
    """What can be asked for under "reason or problem", each with its group."""
    tags = {f"problem:{name}" for name in entry.get("problems", ())}
    if entry["rejected"] is not None:
        tags.add(f"rejected:{entry['rejected']['reason']}")
    tags |= {f"dropped:{item['why']}" for item in entry.get("dropped", ())}
    tags |= {f"flag:{flag}" for region in entry.get("regions", ()) for flag in region.get("flags", ())}
    tags |= {f"flag:{flag} (global)" for flag in entry.get("global", {}).get("flags", ())}
    if entry.get("missing"):
        tags.add("problem:missing keyword")
    return sorted(tags)


def _without_empty(entry: Mapping[str, Any]) -> dict[str, Any]:
    # 0 is a number that was found, not an absent one.
    return {name: value for name, value in entry.items()
            if value is not None and value is not False and not (isinstance(value, str | list | dict) and not value)}
