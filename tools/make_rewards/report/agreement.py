"""How far replies agree: those to one question asked several times, and those of two judges."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from srum_jax.rewards.judgement.judge_reply import ImageReply
from srum_jax.rewards.judgement.readers import ImageReader, RegionReader
from srum_jax.rewards.judgement.settings import JudgeSettings, Parser
from srum_jax.stages import JUDGE
from tools.make_rewards.report.collect import Candidate, CommittedRun

_IMAGE_KINDS = ("global", "sample", "region")  # replies with one score
_MAX_NUMBER = 1000  # of a region in a reply; the calls do not say how many there were


@dataclasses.dataclass
class Pairs:
    """Two numbers for one thing, many times: correlation and mean absolute difference."""

    values: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    @property
    def count(self) -> int:
        """How many pairs."""
        return len(self.values)

    def add(self, x: float, y: float) -> None:
        """Takes up a pair."""
        self.values.append((x, y))

    @property
    def mean_difference(self) -> float | None:
        """Mean absolute difference; None without pairs."""
        return float(np.abs(np.diff(self.values)).mean()) if self.values else None

    @property
    def correlation(self) -> float | None:
        """Pearson's; None where one side never changes."""
        if self.count < 2 or np.std(self.values, axis=0).min() < 1e-6:  # nothing but rounding
            return None
        return float(np.corrcoef(self.values, rowvar=False)[0, 1])

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return {"count": self.count, "mean_difference": self.mean_difference, "correlation": self.correlation}


class Replies:
    """Scores in several replies to the same question: the attempts of one call."""

    def __init__(self, parser: Parser):
        self.settings = JudgeSettings(parser=parser)
        self.questions: collections.Counter[str] = collections.Counter()  # with two or more replies that have scores
        self.pairs: dict[str, Pairs] = collections.defaultdict(Pairs)

    def add(self, candidate: Candidate) -> None:
        """Compares each reply with the ones before."""
        for kind, texts in _questions((candidate.judgement or {}).get("calls", ())):
            scored = [scores for text in texts if (scores := self._scores(kind, text))]
            if len(scored) < 2:
                continue
            self.questions[kind] += 1
            for first, second in itertools.combinations(scored, 2):
                for number in first.keys() & second.keys():
                    self.pairs[kind].add(first[number], second[number])

    def to_json(self) -> list[dict[str, Any]]:
        """A line for each kind of call."""
        return [{"kind": kind, "questions": count, **self.pairs[kind].to_json()}
                for kind, count in sorted(self.questions.items())]

    def _scores(self, kind: str, text: str) -> dict[int, float]:
        reader = (ImageReader(self.settings, kind) if kind in _IMAGE_KINDS else
                  RegionReader(_MAX_NUMBER, self.settings, wanted="score"))
        reply = reader.read(text).parsed
        fields = {0: reply.fields} if isinstance(reply, ImageReply) else reply.regions
        return {number: said.score.value for number, said in fields.items() if said.score.value is not None}


def _questions(calls: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """The replies to each question, in order. A question begins with a first attempt."""
    kind, texts = "", []
    for call in calls:
        if call["attempt"] == 1 or call["kind"] != kind:
            if len(texts) > 1:
                yield kind, texts
            kind, texts = call["kind"], []
        if call["finish_reason"] != "non_finite" and "text" in call:
            texts.append(call["text"])
    if len(texts) > 1:
        yield kind, texts


class OtherRun:
    """The judgements of another folder about the same images."""

    def __init__(self, run: CommittedRun):
        self.run = run
        self._places = {}
        for place in run.places():
            generation = run.candidate(place).generation
            self._places[generation.record_id] = place
        self.images: collections.Counter[str] = collections.Counter()  # compared, other_image, absent, not_judged
        self.region, self.layout = Pairs(), Pairs()
        self.verdicts = [0, 0]  # equal, all
        self.boxes = [0, 0]  # in both, all of this run

    def add(self, candidate: Candidate, row: dict[str, Any]) -> None:
        """Compares one image, and notes the other's scores in `row`: "other" of regions and of the global score."""
        place = self._places.get(candidate.generation.record_id)
        if place is None:
            self.images["absent"] += 1
            return
        other = self.run.candidate(place)
        if other.generation.image_sha256 != candidate.generation.image_sha256:
            self.images["other_image"] += 1
            return
        judgement = other.judgement
        if "status" not in row or judgement is None or "rejected" in judgement:
            self.images["not_judged"] += 1
            return
        self.images["compared"] += 1
        regions = {tuple(region["box"]): region for region in judgement["regions"]}
        for region in row.get("regions", ()):
            self.boxes[1] += 1
            theirs = regions.get(tuple(region["box"]))
            if theirs is None:
                continue
            self.boxes[0] += 1
            region["other"] = theirs["score"]
            self.region.add(region["score"], theirs["score"])
            self.verdicts[0] += (theirs["verdict"] or "not verified") == region["verdict"]
            self.verdicts[1] += 1
        if "global" in row and judgement["global"] is not None:
            row["global"]["other"] = judgement["global"]["score"]
            self.layout.add(row["global"]["score"], judgement["global"]["score"])

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        equal, verdicts = self.verdicts
        common, boxes = self.boxes
        names = ("compared", "absent", "other_image", "not_judged")
        return {"images": {name: self.images[name] for name in names}, "region": self.region.to_json(),
                "global": self.layout.to_json(), "verdicts_equal": equal / verdicts if verdicts else None,
                "boxes_in_both": common / boxes if boxes else None, "judge": identity(self.run)}


def identity(run: CommittedRun) -> str | None:
    """Who judged, in a few words; None without a judgement."""
    settings = run.settings_of(JUDGE)
    if settings is None:
        return None
    judge = settings["judge"]
    digest = judge.get("checkpoint_sha256") or judge.get("sha256") or ""
    return f"{judge.get('kind')} {str(digest)[:12]}".strip()
