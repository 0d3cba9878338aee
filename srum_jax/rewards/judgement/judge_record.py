"""The judgement of one image: which questions are asked in which order, and what is made of the replies.

A judgement is a generator: it yields calls and is sent replies, so that whoever runs many of them can put the calls
of many images into one batch.
"""

import collections
import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.attempts import Asked, ask
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.rewards.judgement.judge_reply import ParsedFields, ReplyStatus
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates, corners_told, format_regions
from srum_jax.rewards.judgement.readers import ImageReader, RegionReader
from srum_jax.rewards.judgement.score_processing import Severity, Unmatched, clipped, neutralised, penalised
from srum_jax.rewards.judgement.settings import GlobalUnparsed, JudgeSettings, Mode, NeutralBand, Verify
from srum_jax.rewards.judgement.verdict import Decision, Shows, may_be_same_object, verdict
from srum_jax.rewards.proposals import Proposal

SKIPPED, ABSENT = "skipped", "absent"


@dataclasses.dataclass(frozen=True)
class Subject:
    """An image to be judged, without its pixels."""

    record_id: str
    prompt: str  # the original one, never a plan
    width: int
    height: int
    keywords: Sequence[str]
    has_directive: bool
    proposals: Sequence[Proposal]  # largest first
    synonyms: Sequence[Sequence[str]] | None = None  # None: the shipped ones
    # Width and height in whose pixels the judge is told boxes: those of the picture as it reads it. None: as it is.
    frame: tuple[int, int] | None = None


Judging = Generator[Call, Reply, dict[str, Any]]


def judge_record(subject: Subject, settings: JudgeSettings, templates: JudgeTemplates) -> Judging:
    """Judges one image; returns its record (spec: reward stage, section 10.3).

    Args:
      subject: the image.
      settings: of the run.
      templates: the questions.
    """
    judgement = _Judgement(subject, settings, templates)
    if settings.mode is Mode.SAMPLE:
        yield from judgement.score_image()
    else:
        chosen = yield from judgement.choose_regions()
        yield from judgement.score_regions(chosen)
    if settings.layout:
        yield from judgement.score_layout()
    return judgement.record()


def select_regions(
    shows: Sequence[Shows], *, max_regions: int, max_background: int = 2, max_unmatched: int = 2
) -> list[int]:
    """Numbers of the chosen regions in the order in which they are shown: matched, background, then unmatched.

    Args:
      shows: of each proposal, largest first; that order is kept within each kind.
      max_regions: in all.
      max_background, max_unmatched: of those kinds.
    """
    chosen: list[int] = []
    limits = {Shows.MATCH: len(shows), Shows.BACKGROUND: max_background, Shows.UNMATCHED: max_unmatched}
    for kind, limit in limits.items():
        chosen += [number for number, found in enumerate(shows) if found is kind][:limit]
    return chosen[:max_regions]


def judged_region(
    proposal: Proposal, score_raw: float, score: float, *, object: str, reason: str, claim: str | None = None,
    keyword: str | None = None, verdict: str | None = None, severity: float = 0.0, flags: Sequence[str] = (),
) -> dict[str, Any]:
    """What a record says of one region."""
    return {"box": list(proposal.box), "area": proposal.area, "predicted_iou": proposal.predicted_iou,
            "stability": proposal.stability, "object": object, "claim": claim, "keyword": keyword, "verdict": verdict,
            "score_raw": score_raw, "severity": severity, "score": score, "reason": reason, "flags": list(flags)}


def layout_score(raw: float, reason: str, subject: Subject, settings: JudgeSettings) -> dict[str, Any]:
    """What a record says of the whole image."""
    score = neutralised(raw, subject.has_directive) if settings.neutral_band is NeutralBand.CLAMP else raw
    return {"score_raw": raw, "score": score, "reason": reason, "flags": ["clamped"] if score != raw else []}


@dataclasses.dataclass(frozen=True)
class _Chosen:
    proposal: Proposal
    verdict: Decision | None  # None: nobody has looked yet
    named: str = ""  # by the identification


class _Judgement:
    """What is known of one image so far."""

    def __init__(self, subject: Subject, settings: JudgeSettings, templates: JudgeTemplates):
        self.subject, self.settings, self.templates = subject, settings, templates
        self.statuses = {"identify_status": SKIPPED, "local_status": SKIPPED, "global_status": ABSENT}
        self.attempts = {"identify": 0, "local": 0, "global": 0}
        self.regions: list[dict[str, Any]] = []
        self.dropped: list[dict[str, Any]] = []
        self.layout: dict[str, Any] | None = None
        self.calls: list[dict[str, Any]] = []
        self.problems: collections.Counter[str] = collections.Counter()

    def choose_regions(self) -> Generator[Call, Reply, list[_Chosen]]:
        """Which proposals are scored, in the order in which they are numbered."""
        proposals, settings = list(self.subject.proposals), self.settings
        if not proposals or settings.verify is not Verify.SEPARATE:
            self._drop([_Chosen(p, None) for p in proposals[settings.max_regions :]], "limit")
            return [_Chosen(p, None) for p in proposals[: settings.max_regions]]
        reader = RegionReader(len(proposals), settings, wanted="object")
        asked = yield from self._ask("identify", reader.read, [p.box for p in proposals])
        found = asked.best.parsed.regions if asked.best else {}
        self.statuses["identify_status"] = asked.best.parsed.status if asked.best else ReplyStatus.NO_REGION
        if not found:
            # The scoring reply names its regions too; verdicts then come from there.
            self.problems["identify_failed"] += 1
            self._drop([_Chosen(p, None) for p in proposals[settings.max_regions :]], "limit")
            return [_Chosen(p, None) for p in proposals[: settings.max_regions]]
        fields = [found.get(number, ParsedFields()) for number in range(1, len(proposals) + 1)]
        seen = [_Chosen(p, self._verdict(said), said.object) for p, said in zip(proposals, fields, strict=True)]
        if settings.unmatched is Unmatched.DROP:
            self._drop([item for item in seen if item.verdict.shows is Shows.UNMATCHED], "policy")
            seen = [item for item in seen if item.verdict.shows is not Shows.UNMATCHED]
        numbers = select_regions([item.verdict.shows for item in seen], max_regions=settings.max_regions,
                                 max_background=settings.max_background, max_unmatched=settings.max_unmatched)
        self._drop([item for number, item in enumerate(seen) if number not in numbers], "limit")
        return [seen[number] for number in numbers]

    def score_regions(self, chosen: list[_Chosen]) -> Generator[Call, Reply, None]:
        """Scores for the chosen regions; those that get none are dropped."""
        if not chosen:
            return
        if self.settings.one_by_one:
            yield from self._score_one_by_one(chosen)
            return
        reader = RegionReader(len(chosen), self.settings, wanted="score")
        asked = yield from self._ask("local", reader.read, [item.proposal.box for item in chosen])
        found = asked.best.parsed.regions if asked.best else {}
        status = asked.best.parsed.status if asked.best else ReplyStatus.UNPARSED
        self.statuses["local_status"] = ReplyStatus.UNPARSED if status is ReplyStatus.NO_REGION else status
        for number, item in enumerate(chosen, start=1):
            if number not in found:
                self._drop([item], "unjudged")
                continue
            self._keep(item, found[number])

    def _score_one_by_one(self, chosen: list[_Chosen]) -> Generator[Call, Reply, None]:
        reader, judged, most = ImageReader(self.settings, "region"), 0, 0
        for number, item in enumerate(chosen, start=1):
            asked = yield from self._ask("region", reader.read, [item.proposal.box], number)
            most = max(most, asked.attempts)
            if asked.best is None or asked.best.parsed.fields.score.value is None:
                self._drop([item], "unjudged")
                continue
            judged += 1
            if self.settings.severity is not Severity.OFF and asked.best.parsed.fields.severity.value is None:
                self.problems["bad_severity"] += 1
            self._keep(item, asked.best.parsed.fields)
        self.attempts["local"] = most
        self.statuses["local_status"] = (ReplyStatus.OK if judged == len(chosen) else
                                         ReplyStatus.PARTIAL if judged else ReplyStatus.UNPARSED)

    def score_image(self) -> Generator[Call, Reply, None]:
        """One score for the whole image, kept as a region that covers it."""
        subject = self.subject
        asked = yield from self._ask("sample", ImageReader(self.settings, "sample").read, [])
        fields = asked.best.parsed.fields if asked.best else ParsedFields()
        self.statuses["local_status"] = asked.best.parsed.status if asked.best else ReplyStatus.UNPARSED
        score, flags = fields.score.value, []
        if score is None:
            if self.settings.global_unparsed is GlobalUnparsed.NONE:
                return
            score, flags = 0.0, ["unparsed"]
        whole = Box(0, 0, subject.width, subject.height)
        self.regions.append(judged_region(Proposal(whole, whole.area), score, score, object=fields.impression,
                                          reason=fields.reason, flags=flags))

    def score_layout(self) -> Generator[Call, Reply, None]:
        """The global score."""
        asked = yield from self._ask("global", ImageReader(self.settings, "global").read, [])
        fields = asked.best.parsed.fields if asked.best else ParsedFields()
        raw = fields.score.value
        if raw is None:
            self.statuses["global_status"] = ReplyStatus.UNPARSED
            if self.settings.global_unparsed is GlobalUnparsed.ZERO:
                self.layout = {"score_raw": None, "score": 0.0, "reason": "", "flags": ["unparsed"]}
            return
        self.statuses["global_status"] = ReplyStatus.OK
        self.layout = layout_score(raw, fields.reason, self.subject, self.settings)

    def record(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        named = {region["keyword"] for region in self.regions}
        checked = self.settings.mode is Mode.REGION and self.settings.verify is not Verify.OFF
        return {
            "record_id": self.subject.record_id,
            "mode": str(self.settings.mode),
            **{name: str(status) for name, status in self.statuses.items()},
            "attempts": list(self.attempts.values()),
            "regions": self.regions,
            "dropped": self.dropped,
            "missing_keywords": [k for k in self.subject.keywords if k not in named] if checked else [],
            "global": self.layout,
            "calls": self.calls,
            "problems": dict(sorted(self.problems.items())),
        }

    def _ask(self, kind: str, read, boxes, region: int | None = None) -> Generator[Call, Reply, Asked]:
        subject = self.subject
        size, normalised = (subject.width, subject.height), self.settings.normalised_boxes
        if subject.frame is not None:
            boxes, size = [box.scaled(size, subject.frame) for box in boxes], subject.frame
        values = {"prompt": subject.prompt}
        if boxes:
            values |= {
                "regions": format_regions(boxes, size, normalised), "num_regions": str(len(boxes)),
                "keywords": ", ".join(subject.keywords),
                "box": " ".join(map(str, corners_told(boxes[0], size, normalised))),
            }
        text = self.templates[kind].fill(**values)
        subject_id = subject.record_id if region is None else f"{subject.record_id}|{region}"
        asked: Asked = yield from ask(subject_id, kind, text, read, self.settings, self.templates)
        if region is None:
            self.attempts["local" if kind == "sample" else kind] = asked.attempts
        self.calls += asked.calls if region is None else [{**call, "region": region} for call in asked.calls]
        self.problems.update(asked.problems)
        return asked

    def _keep(self, item: _Chosen, fields: ParsedFields) -> None:
        settings, flags = self.settings, []
        seen = item.verdict
        if settings.verify is not Verify.OFF:
            seen = self._verdict(fields)
            flags += seen.flags
            if item.verdict is not None and (seen.shows, seen.keyword) != (item.verdict.shows, item.verdict.keyword):
                flags.append("disagrees")
            if item.verdict is not None and not (
                (seen.keyword is not None and seen.keyword == item.verdict.keyword)
                or may_be_same_object(item.named, fields.object, self.subject.synonyms)
            ):
                flags.append("renamed")
                self.problems["renamed_objects"] += 1
            if seen.shows is Shows.UNMATCHED and settings.unmatched is Unmatched.DROP:
                self._drop([dataclasses.replace(item, verdict=seen)], "policy")
                return
        severity = fields.severity.value or 0.0
        score = penalised(fields.score.value, severity, settings.severity)
        if score != fields.score.value:
            flags.append("penalised")
        if seen is not None:
            limited = clipped(score, seen.shows, settings.unmatched)
            flags += ["clipped"] if limited != score else []
            score = limited
        self.regions.append(judged_region(
            item.proposal, fields.score.value, score, object=fields.object, claim=fields.claim,
            keyword=seen.keyword if seen else None, verdict=str(seen.shows) if seen else None, severity=severity,
            reason=fields.reason, flags=flags))

    def _verdict(self, fields: ParsedFields) -> Decision:
        return verdict(fields.object, fields.claim, self.subject.keywords, strict=self.settings.verify_strict,
                       synonyms=self.subject.synonyms)

    def _drop(self, items: Sequence[_Chosen], why: str) -> None:
        self.dropped += [
            {"box": list(item.proposal.box), "verdict": str(item.verdict.shows) if item.verdict else None, "why": why}
            for item in items
        ]

