"""From what the stages wrote of an image to what the page holds of it.

A row is read when the page opens: everything that filters, sorting and cards need. The rest is read when an image is
looked at. Fields that are absent, null, empty or false are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from srum_jax.generation.prompts import Prompt
from srum_jax.generation.records import GenerationRecord
from srum_jax.stages.folder import DamagedError
from tools.make_rewards.report.collect import Candidate
from tools.make_rewards.report.maps import TokenMap, encode, short

_REGION_FIELDS = ("object", "claim", "keyword", "reason", "flags", "severity", "area", "predicted_iou", "stability")
_CALL_FIELDS = ("kind", "attempt", "num_tokens", "finish_reason")


def row(candidate: Candidate, prompt: Prompt) -> dict[str, Any]:
    """What the page knows of an image from the start.

    Raises:
      DamagedError: a line of a stage lacks a field, or it holds something else.
    """
    generation, segmentation, judgement = candidate.generation, candidate.segmentation, candidate.judgement
    try:
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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(generation, error) from error
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

    Raises:
      DamagedError: as `row`.
    """
    generation, judgement = candidate.generation, candidate.judgement
    try:
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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(generation, error) from error
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
    layout = judgement["global"]
    entry = {
        "mode": judgement["mode"],
        "status": {kind: judgement[f"{kind}_status"] for kind in ("identify", "local", "global")},
        "regions": [_region(region) for region in judgement["regions"]],
        "dropped": [_without_empty({"box": _box(item["box"]), "verdict": item["verdict"], "why": item["why"]})
                    for item in judgement["dropped"]],
        "missing": judgement["missing_keywords"],
        "problems": judgement["problems"],
    }
    if layout is not None:
        raw = layout["score_raw"]
        entry["global"] = {"score": _score(layout["score"]), "raw": None if raw is None else _score(raw),
                           **_without_empty({"reason": layout["reason"], "flags": layout["flags"]})}
    return entry


def _region(region: Mapping[str, Any]) -> dict[str, Any]:
    raw = region["score_raw"]
    fields = {"box": _box(region["box"]), "score": _score(region["score"]),
              "raw": None if raw is None else _score(raw), "verdict": region["verdict"] or "not verified"}
    return fields | _without_empty({name: region[name] for name in _REGION_FIELDS})


def _box(corners: Sequence[Any]) -> list[int]:
    if len(corners) != 4 or not all(type(corner) is int for corner in corners):
        raise ValueError(f"box: expected four whole numbers, found {corners!r}")
    return list(corners)


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise ValueError(f"score: expected a number in [-1, 1], found {value!r}")
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


def _damaged(generation: GenerationRecord, error: BaseException) -> DamagedError:
    return DamagedError(f"{generation.record_id}: expected a record as the stages write it ({error!r}); a chunk "
                        "was changed after it was written. Remove it and run its stage again.")
