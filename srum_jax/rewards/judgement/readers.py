"""Replies parsed, by either parser, and rated: is another attempt needed, and what should it be told?"""

import collections
import dataclasses

from srum_jax.rewards.judgement.attempts import Reading
from srum_jax.rewards.judgement.judge_reply import (
    NUMBERED_OTHERWISE,
    ImageReply,
    ParsedFields,
    RegionReply,
    ReplyStatus,
    parse_image_reply,
    parse_region_reply,
)
from srum_jax.rewards.judgement.official_reply import official_layout, official_regions, official_sample
from srum_jax.rewards.judgement.score_number import ParsedNumber
from srum_jax.rewards.judgement.score_processing import Severity
from srum_jax.rewards.judgement.settings import JudgeSettings, Parser, Retry


@dataclasses.dataclass(frozen=True)
class RegionReader:
    """Reads replies about numbered regions."""

    num_regions: int  # that were asked for
    settings: JudgeSettings
    wanted: str  # "score" or "object"

    def read(self, text: str) -> Reading[RegionReply]:
        """Parses and rates one reply."""
        if self.settings.parser is Parser.OFFICIAL and self.wanted == "score":
            return self._official(text)
        severity = self.wanted == "score" and self.settings.severity is not Severity.OFF
        reply = parse_region_reply(text, self.num_regions, wanted=self.wanted, severity=severity)
        count = len(reply.regions)
        # Asking again costs as much as the first time; a few missing regions are not worth it.
        enough = 2 * count >= self.num_regions if self.settings.retry is Retry.REPAIR else count > 0
        return Reading(reply, count, enough and count > 0, self._missing(reply))

    def _missing(self, reply: RegionReply) -> str:
        if reply.status is ReplyStatus.TRUNCATED:
            return "it ended before the answer"
        if NUMBERED_OTHERWISE in reply.problems:
            return f"the blocks were not numbered from 1 to {self.num_regions} as the rectangles are"
        absent = [str(n) for n in range(1, self.num_regions + 1) if n not in reply.regions]
        line = "SCORE" if self.wanted == "score" else "OBJECT"
        if not absent:
            return "it was incomplete"
        return f"a {line} line was missing or unreadable for region {', '.join(absent)}"

    def _official(self, text: str) -> Reading[RegionReply]:
        found = official_regions(text)
        regions, problems = {}, collections.Counter()
        for number, fields in sorted(found.items()):
            score = fields.get("score")
            if not 1 <= number <= self.num_regions:
                problems["unknown_region"] += 1
                continue
            if score is None:
                continue
            if not -1 <= score <= 1:  # the authors' files may hold any number; records of this project do not
                problems["out_of_range"] += 1
                continue
            regions[number] = ParsedFields(object=fields.get("identified_object", ""), score=ParsedNumber(score),
                                           reason=fields.get("reason", ""))
        status = (ReplyStatus.NO_REGION if not regions else
                  ReplyStatus.OK if len(regions) == self.num_regions else ReplyStatus.PARTIAL)
        return Reading(RegionReply(status, regions, dict(problems)), len(found), bool(found), "no region was found")


@dataclasses.dataclass(frozen=True)
class ImageReader:
    """Reads replies about the whole image."""

    settings: JudgeSettings
    kind: str  # "global", "sample", or "region" for a reply about a single one

    def read(self, text: str) -> Reading[ImageReply]:
        """Parses and rates one reply."""
        reply = self._official(text) if self.settings.parser is Parser.OFFICIAL else parse_image_reply(text)
        parsed = reply.status is ReplyStatus.OK
        missing = ("it ended before the answer" if reply.status is ReplyStatus.TRUNCATED else
                   "the SCORE line was missing or unreadable")
        return Reading(reply, int(parsed), parsed, missing)

    def _official(self, text: str) -> ImageReply:
        if self.kind == "global":
            found = official_layout(text)
            score = found.get("global_layout_score")
        else:
            found = official_sample(text)
            score = found.get("score")
        if score is None or not -1 <= score <= 1:
            problem = "no_number" if score is None else "out_of_range"
            return ImageReply(ReplyStatus.UNPARSED, ParsedFields(), {problem: 1})
        fields = ParsedFields(impression=found.get("identified_object", ""), score=ParsedNumber(score),
                              reason=found.get("reason", ""))
        return ImageReply(ReplyStatus.OK, fields, {})
