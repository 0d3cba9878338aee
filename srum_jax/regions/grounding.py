"""Regions that a vision-language model names itself: it is asked where the things of the prompt are.

It answers with a JSON list of {"bbox_2d": [x0, y0, x1, y1], "label": ...}, in pixels of the picture as it reads it,
which a family says (spec: BLIP3o, section 13; reward stage, section 5.2). What cannot be used is counted by kind.
"""

import collections
import dataclasses
import json
import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from srum_jax.judges.dialogue import run_dialogues
from srum_jax.judges.protocol import Judge
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.attempts import Reading, ask
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.settings import JudgeSettings
from srum_jax.rewards.proposals import RawProposal

# (height, width) of a picture -> those in whose pixels the model names boxes.
BoxFrame = Callable[[int, int], tuple[int, int]]

_TEMPLATE, _FIELD = "grounding", "bbox_2d"
_BEGIN = re.compile(r"\[\s*(?=[\]{])|(?=\{)")  # of a list of objects, or of an object alone
_BETWEEN = re.compile(r"[\s,]*")


@dataclasses.dataclass(frozen=True)
class GroundingConfig:
    """What counts as a region, and how often a picture is asked about."""

    min_side: int = 8  # pixels of the picture; narrower boxes are dropped
    merge_iou: float = 0.9  # of boxes that overlap more than this, the largest is kept
    max_attempts: int = 5  # at a reply that can be used

    def __post_init__(self):
        for name, least in (("min_side", 1), ("max_attempts", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"grounding.{name}: expected an integer of at least {least}, found {value!r}.")
        if not 0 < self.merge_iou <= 1:
            raise ValueError(f"grounding.merge_iou: expected a share above 0 and up to 1, found {self.merge_iou!r}.")


@dataclasses.dataclass(frozen=True)
class Pictured:
    """A picture, and what it was to show."""

    record_id: str
    pixels: np.ndarray  # uint8 [H, W, 3]
    prompt: str
    keywords: Sequence[str]


@dataclasses.dataclass(frozen=True)
class GroundedReply:
    """What a reply says.

    Attributes:
      proposals: in pixels of the picture, largest first.
      num_found: elements of the list, those that were dropped included.
      dropped: how many for which reason: "malformed" (no four finite numbers), "outside" (of the picture), "empty",
        "narrow", "merged".
      problems: "not_json"; "cut_off" (the list does not end), "clamped" boxes that reached beyond the picture.
    """

    proposals: tuple[RawProposal, ...] = ()
    num_found: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    problems: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether it names boxes that can be used, or says that there are none."""
        return bool(self.proposals) or not (self.num_found or self.problems.get("not_json"))


@dataclasses.dataclass(frozen=True)
class Grounding:
    """Asks a model for regions. Pictures that it gives no usable reply for get one region, all of the picture."""

    judge: Judge
    frame: BoxFrame
    config: GroundingConfig
    templates: JudgeTemplates

    def propose(self, pictures: Sequence[Pictured]) -> list[dict[str, Any]]:
        """For each picture "proposals" and what a line tells of them: "num_found", "dropped", "problems", "calls",
        "flags"."""
        return run_dialogues([(picture.pixels, self._ask(picture)) for picture in pictures], self.judge)

    def _ask(self, picture: Pictured) -> Generator[Call, Reply, dict[str, Any]]:
        height, width = picture.pixels.shape[:2]
        frame = self.frame(height, width)
        text = self.templates[_TEMPLATE].fill(prompt=picture.prompt, keywords=", ".join(picture.keywords))

        def read(reply: str) -> Reading[GroundedReply]:
            found = read_boxes(reply, frame, (height, width), self.config)
            is_list = not found.problems.get("not_json")
            missing = "no bbox_2d in it lies inside the picture" if is_list else "no JSON list was found in it"
            return Reading(found, is_list + len(found.proposals), found.usable, missing)

        settings = JudgeSettings(think=False, max_attempts=self.config.max_attempts)
        asked = yield from ask(picture.record_id, _TEMPLATE, text, read, settings, self.templates)
        found = asked.best.parsed if asked.best else GroundedReply()
        proposals, flags = found.proposals, []
        if asked.best is None or not found.usable:
            proposals, flags = (RawProposal((0, 0, width, height)),), ["fallback_whole_image"]
        return {"proposals": proposals, "num_found": found.num_found, "dropped": dict(found.dropped),
                "problems": dict(asked.problems), "calls": asked.calls, "flags": flags}


def read_boxes(
    reply: str, frame: tuple[int, int], size: tuple[int, int], config: GroundingConfig
) -> GroundedReply:
    """The boxes of a reply, in pixels of the picture.

    A code fence or words around the list do no harm, a list that is cut off counts up to where it is, and one object
    stands for a list of one. Corners may be in any order.

    Args:
      reply: of the model.
      frame: height and width of the picture as the model read it.
      size: height and width of the picture.
      config: what counts as a region.
    """
    problems: collections.Counter[str] = collections.Counter()
    elements = _elements(reply, problems)
    if elements is None:
        return GroundedReply(problems={"not_json": 1})
    dropped: collections.Counter[str] = collections.Counter()
    found = []
    for element in elements:
        box = _scaled(element, frame, size)
        if box is None:
            dropped["malformed"] += 1
            continue
        inside = box.clip(size[1], size[0])
        if inside.empty:
            dropped["empty" if box.empty else "outside"] += 1
            continue
        if min(inside.width, inside.height) < config.min_side:
            dropped["narrow"] += 1
            continue
        problems["clamped"] += inside != box
        label = element.get("label")
        found.append(RawProposal(inside, label=label if isinstance(label, str) else None))
    found.sort(key=lambda proposal: (-proposal.corners.area, proposal.corners.y0, proposal.corners.x0))
    kept: list[RawProposal] = []
    for proposal in found:
        if any(proposal.corners.iou(other.corners) > config.merge_iou for other in kept):
            dropped["merged"] += 1
        else:
            kept.append(proposal)
    return GroundedReply(tuple(kept), len(elements), dropped, +problems)


def _elements(reply: str, problems: collections.Counter[str]) -> list[Any] | None:
    """The complete elements of the first list of objects in a text; None where it holds none."""
    decoder = json.JSONDecoder()
    for begin in _BEGIN.finditer(reply):
        elements, place, alone = [], begin.end(), not begin[0]
        while True:
            place = place if alone else _BETWEEN.match(reply, place).end()
            if reply[place : place + 1] == "]" and not alone:
                return elements
            try:
                element, place = decoder.raw_decode(reply, place)
            except (ValueError, RecursionError):
                break
            if alone:
                if isinstance(element, dict) and _FIELD in element:
                    return [element]
                break  # the list may lie inside it
            elements.append(element)
        if elements:
            problems["cut_off"] += 1
            return elements
    return None


def _scaled(element: Any, frame: tuple[int, int], size: tuple[int, int]) -> Box | None:
    """The box of an element, its corners in order; None where it has none."""
    corners = element.get(_FIELD) if isinstance(element, dict) else None
    if not isinstance(corners, list) or len(corners) != 4:
        return None
    scaled = []
    for axis, corner in enumerate(corners):
        if isinstance(corner, bool) or not isinstance(corner, int | float):
            return None
        seen, stored = frame[1 - axis % 2], size[1 - axis % 2]
        try:
            value = float(corner) * stored / seen
        except OverflowError:  # an integer that no float holds
            return None
        if not math.isfinite(value):
            return None
        scaled.append(round(value))
    (x0, x1), (y0, y1) = sorted(scaled[::2]), sorted(scaled[1::2])
    return Box(x0, y0, x1, y1)
