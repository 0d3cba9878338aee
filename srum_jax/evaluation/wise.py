"""WISE: pictures of what a short text only hints at (spec: evaluation, section 5). Two releases, never in one table."""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import (
    OVERALL,
    Benchmark,
    Conversation,
    Drawing,
    EvalItem,
    ItemScore,
    JudgeReply,
    Term,
    Total,
    equal_weights,
    last_reply,
)
from srum_jax.evaluation.entries import array_entries, refuse_repeated
from srum_jax.generation.records import GenerationRecord
from srum_jax.storage.atomic_file import as_json_lines

CATEGORIES = ("culture", "time", "space", "biology", "physics", "chemistry")
_ORIGINAL, _VERIFIED = "wise-2025", "wise-verified-2026"
# Last id of each category; they follow each other from 1.
LAST_IDS = {_ORIGINAL: (400, 567, 700, 800, 900, 1000), _VERIFIED: (400, 520, 640, 760, 880, 1000)}
WEIGHTS = {_ORIGINAL: (0.4, 0.167, 0.133, 0.1, 0.1, 0.1), _VERIFIED: (0.4, 0.12, 0.12, 0.12, 0.12, 0.12)}
GROUPS = {"spatio_temporal": ("time", "space"), "natural_science": ("biology", "physics", "chemistry")}
MARKS = ("consistency", "realism", "aesthetic_quality")
_CALL = "rate"
_MARKUP = r"[\s*_`\"']*"
_MARK = {name: re.compile(rf"{name.replace('_', '[ _]')}{_MARKUP}[:：]?{_MARKUP}(\d)(?!\d|\.\d)", re.IGNORECASE)
         for name in MARKS}
_BINARY = re.compile(rf"score{_MARKUP}[:：]{_MARKUP}([01])(?!\d|\.\d)", re.IGNORECASE)
_REMINDER = "Reply with each label, a colon and one digit, each on a line of its own, and nothing else."


def category_of(prompt_id: int, release: str) -> str:
    """By the id, as the official scorer does.

    Raises:
      BadInput: it lies outside of the release.
    """
    for category, last in zip(CATEGORIES, LAST_IDS[release], strict=True):
        if 1 <= prompt_id <= last:
            return category
    raise BadInput(f"prompt_id: expected a number from 1 to {LAST_IDS[release][-1]}, found {prompt_id}.")


def read_marks(text: str) -> dict[str, int] | None:
    """The three marks, each from 0 to 2; None if one is missing or outside."""
    found = {name: pattern.search(text) for name, pattern in _MARK.items()}
    if not all(found.values()):
        return None
    marks = {name: int(match[1]) for name, match in found.items()}
    return marks if max(marks.values()) <= 2 else None


def wi_score(consistency: float, realism: float, aesthetic_quality: float) -> float:
    """In [0, 1], of marks from 0 to 2."""
    return (0.7 * consistency + 0.2 * realism + 0.1 * aesthetic_quality) / 2


class Wise(Benchmark):
    """See `Benchmark`."""

    name: ClassVar[str] = "wise"
    protocols: ClassVar[Mapping[str, str | None]] = {_ORIGINAL: None, _VERIFIED: None, "srum_jax-1": "wise.txt"}
    placeholders: ClassVar[tuple[str, ...]] = ("$prompt", "$explanation")
    max_new_tokens: ClassVar[int] = 2000
    drawing: ClassVar[Drawing] = Drawing(settings={"sampler.guidance.interval": "0.4,1.0"})

    @property
    def release(self) -> str:
        """Whose ids and weights hold."""
        return _VERIFIED if self.protocol == _VERIFIED else _ORIGINAL

    @property
    def official_counts(self) -> Mapping[str, int]:
        """Of the release."""
        lasts = LAST_IDS[self.release]
        return dict(zip(CATEGORIES, (b - a for a, b in zip((0, *lasts), lasts, strict=False)), strict=True))

    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """Of the three JSON arrays, or of one that holds all."""
        if not files:
            raise BadInput("--prompts: expected the three JSON files of WISE, or one with all; found nothing.")
        fields = {"Prompt": str, "Explanation": str, "Subcategory": str, "prompt_id": int}
        entries = [entry for name, data in sorted(files.items()) for entry in array_entries(name, data, fields)]
        refuse_repeated(", ".join(files), "prompt_id", [entry["prompt_id"] for entry in entries])
        return tuple(
            EvalItem(str(entry["prompt_id"]), category_of(entry["prompt_id"], self.release), entry["Prompt"],
                     {"explanation": entry["Explanation"], "subcategory": entry["Subcategory"]})
            for entry in sorted(entries, key=lambda entry: entry["prompt_id"]))

    def image(self, item: EvalItem, number: int) -> str:
        """`<prompt_id>.png`, all in one folder."""
        return f"{item.id}.png"

    def beside_images(
        self, items: Sequence[EvalItem], records: Mapping[tuple[str, int], GenerationRecord]
    ) -> Mapping[str, bytes]:
        """The plans, where there are any."""
        return {f"{item.id}.txt": records[item.id, 0].think_text.encode()
                for item in items if records[item.id, 0].think_text is not None}

    def calls(self, item: EvalItem, number: int) -> Conversation:
        """One call with prompt and explanation, up to three times."""
        text = self.template.fill(prompt=item.prompt, explanation=item.extra["explanation"])
        yield from self.ask(_CALL, text, item, number,
                            lambda reply: self._values(reply) is not None, attempts=3, reminder=_REMINDER)

    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """The WiScore, and the marks that it is made of; or the binary score of the verified release."""
        text = last_reply(replies[0], _CALL)
        values = self._values(text)
        if values is None:
            return ItemScore(item.id, item.category, {}, True, f"expected marks from 0 to 2, found {text[:80]!r}")
        return ItemScore(item.id, item.category, values)

    def _values(self, text: str) -> dict[str, float] | None:
        if self.release == _VERIFIED:
            found = _BINARY.search(text)
            return None if found is None else {"score": float(found[1])}
        marks = read_marks(text)
        return None if marks is None else {"score": wi_score(**marks), **{name: float(m) for name, m in marks.items()}}

    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """Six categories, two groups of them, and two overall numbers: upstream's, and the plain mean of the six."""
        counts = {category: sum(item.category == category for item in items) for category in CATEGORIES}
        groups = []
        for name, members in GROUPS.items():
            total = sum(counts[category] for category in members) or 1
            groups.append(Total(name, tuple(Term(c, "score", counts[c] / total) for c in members)))
        weighted = tuple(Term(category, "score", weight)
                         for category, weight in zip(CATEGORIES, WEIGHTS[self.release], strict=True))
        return (*(Total(category, (Term(category, "score"),)) for category in CATEGORIES), *groups,
                Total("overall_plain6", equal_weights(CATEGORIES)), Total(OVERALL, weighted))

    def tables(self, items, scores, replies, results) -> Mapping[str, bytes]:
        """The lines that the official scripts write."""
        full, marks = [], []
        for item in items:
            if item.id not in scores:
                continue
            full.append({"prompt_id": int(item.id), "prompt": item.prompt, "key": item.extra["explanation"],
                         "image_path": self.image(item, 0), "evaluation": last_reply(replies[item.id][0], _CALL)})
            if not scores[item.id].failed:
                values = scores[item.id].values
                marks.append({"prompt_id": int(item.id), "Subcategory": item.extra["subcategory"],
                              **{name: int(values[name]) for name in (*MARKS, "score")
                                 if name in values and (name != "score" or self.release == _VERIFIED)}})
        return {"full_results.jsonl": as_json_lines(full), "scores_results.jsonl": as_json_lines(marks)}
