"""T2I-ReasonBench: a description of each picture, then one group of questions after the other (spec: section 6)."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
from srum_jax.evaluation.reply_objects import json_objects
from srum_jax.evaluation.t2i_compbench import csv_bytes

# By category: the word that names its files, and its groups of questions in the order in which they are asked.
CATEGORIES = {
    "idiom_interpretation": ("idiom", ("reason_evaluation", "quality_evaluation")),
    "textual_image_design": ("textual", ("reason_evaluation", "quality_evaluation")),
    "entity_reasoning": ("entity", ("entity_evaluation", "other_details_evaluation", "quality_evaluation")),
    "scientific_reasoning": ("scientific", ("scientific_evaluation", "other_details_evaluation", "quality_evaluation")),
}
MAIN_WEIGHT, DETAIL_WEIGHT = 0.7, 0.3
_DESCRIBE = "describe"
_ALLOWED = (0, 0.5, 1)
_REMINDER = 'Reply with one JSON object only: {"reason": a text, "score": a list with 1, 0.5 or 0 for each question}.'
_PARTS = "\n---\n"  # between the two questions of a template


class ReasonBench(Benchmark):
    """See `Benchmark`."""

    name: ClassVar[str] = "reasonbench"
    protocols: ClassVar[Mapping[str, str | None]] = {"t2i-reasonbench-2025": None, "srum_jax-1": "reasonbench.txt"}
    placeholders: ClassVar[tuple[str, ...]] = ("---", "$questions")
    max_new_tokens: ClassVar[int] = 1000
    drawing: ClassVar[Drawing] = Drawing(settings={"sampler.guidance.interval": "0.4,1.0"})
    official_counts: ClassVar[Mapping[str, int]] = dict.fromkeys(CATEGORIES, 200)

    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """Of the prompt and question files of each category, told apart by the category's word in their names."""
        if not files:
            raise BadInput("--prompts: expected the prompt and question files of T2I-ReasonBench, found nothing.")
        prompts: dict[str, dict[int, dict]] = {}
        questions: dict[str, dict[int, dict]] = {}
        for name, data in sorted(files.items()):
            category = _category_of(name)
            entries = array_entries(name, data, {"id": int, "prompt": str})
            refuse_repeated(name, "id", [entry["id"] for entry in entries])
            asked = any(field.endswith("_evaluation") for field in entries[0])
            kind = questions if asked else prompts
            if category in kind:
                raise BadInput(f"{name}: expected one {'question' if asked else 'prompt'} file of {category}, found "
                               "two.")
            if asked:
                for number, entry in enumerate(entries):
                    _check_questions(f"{name}: entry {number}", entry, category)
            kind[category] = {entry["id"]: entry for entry in entries}
        items = []
        for category in CATEGORIES:
            drawn, asked = prompts.get(category, {}), questions.get(category, {})
            if drawn.keys() != asked.keys():
                differ = sorted(drawn.keys() ^ asked.keys())
                raise BadInput(f"{category}: expected the same ids in its prompt and question files, found "
                               f"{differ[:5]} in one of them only.")
            for number, entry in sorted(drawn.items()):
                groups = {group: _pairs(asked[number][group]) for group in CATEGORIES[category][1]}
                items.append(EvalItem(f"{category}-{number:04d}", category, entry["prompt"], {"groups": groups}))
        return tuple(items)

    def image(self, item: EvalItem, number: int) -> str:
        """`<category>/<id>.png`, four digits."""
        return f"{item.category}/{item.id[-4:]}.png"

    def calls(self, item: EvalItem, number: int) -> Conversation:
        """A description, and from there one separate follow-up for each group of questions."""
        describe, _, follow_up = self.template.text.partition(_PARTS)
        describe, follow_up = (dataclasses.replace(self.template, text=text) for text in (describe, follow_up))
        opening = describe.fill(prompt=item.prompt)
        described = yield from self.ask(_DESCRIBE, opening, item, number)
        for group, pairs in item.extra["groups"].items():
            listed = "\n".join(f"{place}. {question} ({criterion})" if criterion else f"{place}. {question}"
                               for place, (question, criterion) in enumerate(pairs, start=1))
            text = follow_up.fill(prompt=item.prompt, questions=listed)
            readable = functools.partial(read_list, count=len(pairs))
            yield from self.ask(group, text, item, number, readable, attempts=3, reminder=_REMINDER,
                                history=((opening, described.text),))

    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """Accuracy and quality, in [0, 100]."""
        averages = []
        for group, pairs in item.extra["groups"].items():
            text = last_reply(replies[0], group)
            scores = read_list(text, len(pairs))
            if scores is None:
                why = f"{group}: expected {len(pairs)} scores of 0, 0.5 or 1, found {text[:80]!r}"
                return ItemScore(item.id, item.category, {}, True, why)
            averages.append(sum(scores) / len(scores))
        *main, quality = averages
        accuracy = main[0] if len(main) == 1 else MAIN_WEIGHT * main[0] + DETAIL_WEIGHT * main[1]
        return ItemScore(item.id, item.category, {"accuracy": 100 * accuracy, "quality": 100 * quality})

    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """Accuracy and quality of each category; the overall number is the mean of the four accuracies."""
        return (*(Total(category, (Term(category, "accuracy"),)) for category in CATEGORIES),
                *(Total(f"{category}_quality", (Term(category, "quality"),)) for category in CATEGORIES),
                Total(OVERALL, equal_weights(tuple(CATEGORIES), "accuracy")))

    def tables(self, items, scores, replies, results) -> Mapping[str, bytes]:
        """A CSV file for each category, with the official columns."""
        tables = {}
        for category, (word, groups) in CATEGORIES.items():
            short = ("acc", "qual") if len(groups) == 2 else (word, "detail", "qual")
            rows = [_row(item, groups, short, replies[item.id][0]) for item in items
                    if item.category == category and item.id in scores and not scores[item.id].failed]
            if rows:
                tables[f"{category}.csv"] = csv_bytes(tuple(rows[0]), rows)
        return tables


def read_list(text: str, count: int) -> list[float] | None:
    """The scores of a reply: a JSON object with a list `score` of so many values 0, 0.5 or 1; None if there is none."""
    for found in json_objects(text):
        scores = found.get("score")
        if isinstance(scores, list):
            right = len(scores) == count and all(
                type(value) in (int, float) and value in _ALLOWED for value in scores)
            return [float(value) for value in scores] if right else None
    return None


def _row(item: EvalItem, groups: Sequence[str], short: Sequence[str], replies: Sequence[JudgeReply]) -> dict[str, Any]:
    row: dict[str, Any] = {"id": int(item.id[-4:]), "prompt": item.prompt, "answer_1": last_reply(replies, _DESCRIBE)}
    averages = {}
    for number, (group, name) in enumerate(zip(groups, short, strict=True), start=2):
        text = last_reply(replies, group)
        scores = read_list(text, len(item.extra["groups"][group]))
        row |= {f"answer_{number}": text, f"score_{name}": scores}
        averages[f"score_{name[0]}_avg"] = sum(scores) / len(scores)
    return row | averages


def _category_of(name: str) -> str:
    found = [category for category, (word, _) in CATEGORIES.items() if word in name.lower()]
    if len(found) != 1:
        words = ", ".join(word for word, _ in CATEGORIES.values())
        raise BadInput(f"{name}: expected one of the words {words} in the name of the file, which say its category.")
    return found[0]


def _check_questions(where: str, entry: Mapping[str, Any], category: str) -> None:
    for group in CATEGORIES[category][1]:
        if not isinstance(entry.get(group), dict) or not _pairs(entry[group]):
            raise BadInput(f"{where}: field '{group}': expected an object with q1, c1, ..., found "
                           f"{entry.get(group)!r}.")


def _pairs(group: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Questions and their criteria; a few objects lack the last criterion."""
    pairs, number = [], 1
    while f"q{number}" in group:
        pairs.append((str(group[f"q{number}"]), str(group.get(f"c{number}", ""))))
        number += 1
    return pairs
