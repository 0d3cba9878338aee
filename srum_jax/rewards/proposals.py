"""Regions that somebody proposed for an image: what is kept of them, and in which order."""

import collections
import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from srum_jax.rewards.boxes import Box


@dataclasses.dataclass(frozen=True)
class Proposal:
    """One region of an image."""

    box: Box
    area: int  # pixels of its mask; of its box where there is no mask
    predicted_iou: float | None = None  # the proposer's own opinion of its mask
    stability: float | None = None  # of the mask under other thresholds
    rle: Mapping[str, Any] | None = None  # the mask, run-length encoded as COCO does
    label: str | None = None  # what the proposer calls it


@dataclasses.dataclass(frozen=True)
class RawProposal:
    """A region as it was proposed; its corners may be anything."""

    corners: Sequence[Any]  # x0, y0, x1, y1 in pixels, half-open
    area: int | None = None
    predicted_iou: float | None = None
    stability: float | None = None
    rle: Mapping[str, Any] | None = None
    label: str | None = None


def clean_proposals(
    raw: Iterable[RawProposal], width: int, height: int, *, max_candidates: int, min_area: int = 0,
    max_share: float = 1.0,
) -> tuple[list[Proposal], dict[str, int]]:
    """Keeps what is usable, largest mask first; ties by predicted IoU, then from top to bottom and left to right.

    Args:
      raw: in any order.
      width, height: of the image, pixels.
      max_candidates: how many are kept at most.
      min_area: smaller masks are dropped, pixels.
      max_share: masks of more than this share of the image are dropped.

    Returns:
      The proposals, and how many were dropped for which reason: "not_integer", "empty", "small", "large", "duplicate"
      (of a box that is kept), "limit".
    """
    dropped: collections.Counter[str] = collections.Counter()
    kept = []
    for proposal in raw:
        corners = _integers(proposal.corners)
        if corners is None:
            dropped["not_integer"] += 1
            continue
        box = Box(*corners).clip(width, height)
        if box.empty:
            dropped["empty"] += 1
            continue
        area = box.area if proposal.area is None else proposal.area
        if area < min_area or area > max_share * width * height:
            dropped["small" if area < min_area else "large"] += 1
            continue
        kept.append(Proposal(box, area, proposal.predicted_iou, proposal.stability, proposal.rle, proposal.label))
    kept.sort(key=lambda p: (-p.area, -(p.predicted_iou or 0.0), p.box.y0, p.box.x0))
    distinct: dict[Box, Proposal] = {}
    for proposal in kept:
        if proposal.box in distinct:
            dropped["duplicate"] += 1
        distinct.setdefault(proposal.box, proposal)
    result = list(distinct.values())
    if len(result) > max_candidates:
        dropped["limit"] += len(result) - max_candidates
    return result[:max_candidates], dict(dropped)


def _integers(corners: Sequence[Any]) -> tuple[int, int, int, int] | None:
    """The corners, if they are four whole numbers."""
    if len(corners) != 4:
        return None
    for corner in corners:
        if isinstance(corner, bool) or not isinstance(corner, numbers.Real):
            return None
        if not math.isfinite(corner) or corner != int(corner):
            return None
    return tuple(int(corner) for corner in corners)
