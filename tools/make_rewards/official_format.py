"""The two JSON forms in which the authors of SRUM publish judged images.

Training form:      bad_image_file, good_image_file, prompt, vlm_rewards (first entry: global_layout_reward)
Intermediate form:  image_file, prompt, vlm_rewards (identified_object, score, bbox), global_layout_reward or null

Their boxes have inclusive corners; a box 0, 0, width, height stands for the whole image.
"""

import collections
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from srum_jax.data.schema import GlobalStatus, Region, RewardRecord, is_unicode
from srum_jax.rewards.boxes import GLOBAL_OBJECT, Box, parse_coordinates
from tools.make_rewards.errors import Reject


@dataclasses.dataclass(frozen=True)
class JudgedImage:
    """One line of either form, scores and boxes not yet examined."""

    image_file: str
    prompt: str
    regions: tuple[dict[str, Any], ...]  # object, bbox, score, reason, area where given
    global_: dict[str, Any] | None  # score, reason


def parse_entry(entry: Any) -> JudgedImage:
    """Reads a parsed JSON line of either form.

    Raises:
      Reject: fields are missing or of another kind.
    """
    if not isinstance(entry, dict):
        raise Reject("schema_error", f"expected a JSON object, found {type(entry).__name__}")
    training = "bad_image_file" in entry
    image = entry.get("bad_image_file") if training else entry.get("image_file")
    if not isinstance(image, str) or not image:
        raise Reject("schema_error", "field 'bad_image_file' or 'image_file': expected a file name, found "
                                     f"{image!r}")
    if training and entry.get("good_image_file", image) != image:
        raise Reject("schema_error", f"field 'good_image_file': expected {image!r}, as in all published records, found "
                                     f"{entry['good_image_file']!r}")
    if not is_unicode(image):
        raise Reject("schema_error", f"field 'bad_image_file' or 'image_file': expected valid Unicode, found {image!r}")
    prompt = entry.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Reject("bad_prompt", f"expected a prompt, found {prompt!r}")
    rewards = entry.get("vlm_rewards", [])
    if not isinstance(rewards, list) or not all(isinstance(reward, dict) for reward in rewards):
        raise Reject("schema_error", "field 'vlm_rewards': expected a list of objects")
    regions, global_ = [], None
    for reward in rewards:
        name = reward.get("object", reward.get("identified_object", ""))
        if name == GLOBAL_OBJECT:
            global_ = reward if global_ is None else global_  # the first one counts
        else:
            regions.append(reward | {"object": name if isinstance(name, str) else ""})
    outside = entry.get("global_layout_reward")
    if global_ is None and isinstance(outside, dict) and "global_layout_score" in outside:
        global_ = outside | {"score": outside["global_layout_score"]}
    return JudgedImage(image, prompt, tuple(regions), global_)


def convert_regions(
    judged: JudgedImage, width: int, height: int, warnings: collections.Counter[str]
) -> tuple[tuple[Region, ...], str]:
    """Regions with half-open boxes inside the image, and their provider.

    Args:
      judged: the entry.
      width: pixels of its image.
      height: likewise.
      warnings: counts what was dropped or changed.

    Raises:
      Reject: a score is null, text, NaN or infinite; the authors' loader drops such records too.
    """
    regions, whole = [], 0
    for number, region in enumerate(judged.regions):
        corners = parse_coordinates(region.get("bbox"))
        if corners is None or corners[0] > corners[2] or corners[1] > corners[3]:
            warnings["region_box_unusable"] += 1
            continue
        if "score" not in region:
            warnings["region_score_missing_read_as_0"] += 1
        score = _score(region.get("score", 0.0), f"vlm_rewards[{number}].score")
        if not -1 <= score <= 1:
            warnings["region_score_out_of_range"] += 1
            continue
        is_whole = corners == (0, 0, width, height)
        box = Box(*corners) if is_whole else Box(corners[0], corners[1], corners[2] + 1, corners[3] + 1)
        clipped = box.clip(width, height)
        if clipped.empty:
            warnings["region_box_outside"] += 1
            continue
        if clipped != box:
            warnings["region_box_clipped"] += 1
        whole += is_whole
        area = region.get("area")
        area = int(area) if _is_number(area) and 0 <= area <= width * height else None
        regions.append(Region(box=clipped, score=score, object=_text(region["object"]), area=area,
                              reason=_text(region.get("reason"))))
    return tuple(regions), "sample" if regions and whole == len(regions) else "sam"


def convert_global(judged: JudgedImage) -> dict[str, Any]:
    """The global fields of a record; its status says whether there is a score.

    Raises:
      Reject: the score is not a finite number.
    """
    if judged.global_ is None or "score" not in judged.global_:
        return {"global_status": GlobalStatus.ABSENT}
    score = _score(judged.global_["score"], "global score")
    reason = _text(judged.global_.get("reason")) or None
    if not -1 <= score <= 1:
        return {"global_status": GlobalStatus.UNPARSED, "global_reason": reason}
    return {"global_status": GlobalStatus.OK, "global_score": score, "global_reason": reason}


def official_line(record: RewardRecord, image_file: str) -> bytes:
    """A record in the training form, a JSON line. Regions without a name are left out, as the authors do.

    Args:
      record: any.
      image_file: name of the image, relative to the folder of images.
    """
    whole = [0, 0, record.image_width, record.image_height]
    rewards = []
    if record.global_score is not None:
        rewards.append({"object": GLOBAL_OBJECT, "bbox": whole, "score": record.global_score,
                        "reason": record.global_reason or ""})
    for region in record.regions:
        if region.object:
            x0, y0, x1, y1 = region.box
            box = whole if list(region.box) == whole else [x0, y0, x1 - 1, y1 - 1]
            rewards.append({"object": region.object, "bbox": box, "score": region.score})
    entry = {"bad_image_file": image_file, "good_image_file": image_file, "prompt": record.prompt,
             "vlm_rewards": rewards}
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def official_training_entry(entry: Any, prompts: Mapping[str, str]) -> dict[str, Any] | None:
    """A line of the intermediate form in the training form, as the authors' formatter makes it; None where it drops it.

    It drops what has no image, no prompt or nothing scored, every global score of 0, and what has null or a number in
    the place of a list or an object; regions without a name or a score are left out. Values are taken as they stand.

    Args:
      entry: of the intermediate form.
      prompts: the original prompts by image file; the prompt of the entry is not used.
    """
    if not isinstance(entry, dict):
        return None
    image = entry.get("image_file")
    prompt = prompts.get(image) if isinstance(image, str) else None
    layout, regions = entry.get("global_layout_reward") or {}, entry.get("vlm_rewards", [])
    if not prompt or not isinstance(layout, dict) or not isinstance(regions, list):
        return None
    if not all(isinstance(region, dict) for region in regions):
        return None
    rewards = []
    if layout.get("global_layout_score") is not None:
        if layout["global_layout_score"] == 0:
            return None
        rewards.append({"object": GLOBAL_OBJECT, "bbox": layout.get("bbox", [0, 0, 0, 0]),
                        "score": layout["global_layout_score"], "reason": layout.get("reason", "")})
    rewards += [
        {"object": region["identified_object"], "bbox": region["bbox"], "score": region["score"]}
        for region in regions
        if region.get("identified_object") and "score" in region and "bbox" in region
    ]
    if not rewards:
        return None
    return {"bad_image_file": image, "good_image_file": image, "prompt": prompt, "vlm_rewards": rewards}


def _score(value: Any, field: str) -> float:
    if not _is_number(value):
        raise Reject("schema_error", f"{field}: expected a number, found {value!r}")
    if isinstance(value, int):
        value = max(min(value, 2), -2)  # outside of [-1, 1] as before, but not too large for a float
    if not math.isfinite(value):
        raise Reject("non_finite_score", f"{field}: expected a finite number, found {value!r}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
