"""T2I-CompBench as SRUM reports it: one rubric on a 0-100 scale for all categories (spec: evaluation, section 3)."""

import csv
import io
import json
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
    last_reply,
)
from srum_jax.evaluation.entries import array_entries, refuse_repeated
from srum_jax.evaluation.reply_objects import hundred_point_score
from srum_jax.generation.records import GenerationRecord

PARTS_OF_COMPLEX = ("complex_action", "complex_spatial")
COMPLEX = ("complex", *PARTS_OF_COMPLEX)  # three of ten labels, one of the table's eight columns
COLUMNS = ("3d_spatial", "color", "complex", "non-spatial", "numeracy", "shape", "spatial", "texture")
# Of the validation file, by category: first id and count. Ids are contiguous inside a category.
VALIDATION = {
    "3d_spatial": (701, 300), "color": (1701, 300), "complex": (3335, 300), "complex_action": (3635, 212),
    "complex_spatial": (3847, 58), "non-spatial": (4605, 300), "numeracy": (5605, 300), "shape": (6605, 300),
    "spatial": (7605, 300), "texture": (8605, 300),
}
# Names of the benchmark's own text files, one prompt a line in the order of the ids.
_TEXT_FILES = {
    "3d_spatial_val.txt": "3d_spatial", "color_val.txt": "color", "complex_val.txt": "complex",
    "complex_val_action.txt": "complex_action", "complex_val_spatial.txt": "complex_spatial",
    "non_spatial_val.txt": "non-spatial", "numeracy_val.txt": "numeracy", "shape_val.txt": "shape",
    "spatial_val.txt": "spatial", "texture_val.txt": "texture",
}
_CALL, _AUTHORS = "score", "srum-2025"
REMINDER = 'Reply with one JSON object only: {"score": an integer from 0 to 100, "explanation": at most 20 words}.'
_CSV_FIELDS = ("question_id", "prompt", "category", "image_path", "question_text", "score", "full_evaluation_text")


def complex_terms(weight: float = 1.0) -> tuple[Term, ...]:
    """The mean of the three means, as the authors take it although two of them are parts of the first."""
    return tuple(Term(category, "score", weight / len(COMPLEX)) for category in COMPLEX)


def overall_terms() -> tuple[Term, ...]:
    """The plain mean of the eight columns."""
    weight = 1 / len(COLUMNS)
    return (*(Term(column, "score", weight) for column in COLUMNS if column != "complex"), *complex_terms(weight))


def items_of_entries(files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
    """The items of JSON arrays in the form of val_comp.json, of whatever category.

    Raises:
      BadInput: a file cannot be used, or an id occurs twice.
    """
    fields = {"Question": str, "Category": str, "Question_id": int}
    entries = [entry for name, data in files.items() for entry in array_entries(name, data, fields)]
    refuse_repeated(", ".join(files), "Question_id", [entry["Question_id"] for entry in entries])
    return tuple(EvalItem(str(entry["Question_id"]), entry["Category"], entry["Question"]) for entry in entries)


class T2ICompBench(Benchmark):
    """See `Benchmark`."""

    name: ClassVar[str] = "t2i_compbench"
    protocols: ClassVar[Mapping[str, str | None]] = {_AUTHORS: None, "srum_jax-1": "t2i_compbench.txt"}
    placeholders: ClassVar[tuple[str, ...]] = ("$prompt",)
    max_new_tokens: ClassVar[int] = 512
    drawing: ClassVar[Drawing] = Drawing(settings={"sampler.guidance.interval": "0.4,1.0"})
    failures: ClassVar[Mapping[str, float | None]] = {"minus_one": -1.0, "exclude": None, "zero": 0.0}
    official_counts: ClassVar[Mapping[str, int]] = {category: count for category, (_, count) in VALIDATION.items()}

    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """Of the authors' JSON array, or of the benchmark's own text files."""
        if not files:
            raise BadInput("--prompts: expected val_comp.json, or the benchmark's own text files; found nothing.")
        if all(name in _TEXT_FILES for name in files):
            return tuple(item for name, data in sorted(files.items()) for item in _of_text(name, data))
        items = items_of_entries(files)
        for number, item in enumerate(items):
            if item.category not in VALIDATION:
                raise BadInput(f"{', '.join(files)}: entry {number}: field 'Category': expected one of "
                               f"{', '.join(VALIDATION)}; found {item.category!r}.")
        return items

    def image(self, item: EvalItem, number: int) -> str:
        """`<category>_<steps>_<think or no_think>/<Question_id>.png`."""
        return f"{item.category}_{self.drawn_as}/{item.id}.png"

    def beside_images(
        self, items: Sequence[EvalItem], records: Mapping[tuple[str, int], GenerationRecord]
    ) -> Mapping[str, bytes]:
        """`output.jsonl` in each folder, with what was thought."""
        lines: dict[str, bytes] = {}
        for item in items:
            record, path = records[item.id, 0], self.image(item, 0)
            entry = {"prompt_id": int(item.id), "image_file": path.rpartition("/")[2], "original_prompt": item.prompt,
                     "detailed_prompt": record.detailed_prompt or "", "think_output": record.think_text or ""}
            name = f"{path.rpartition('/')[0]}/output.jsonl"
            lines[name] = lines.get(name, b"") + json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        return lines

    def calls(self, item: EvalItem, number: int) -> Conversation:
        """One call with the original prompt. The authors never ask again."""
        yield from self.ask(_CALL, self.template.fill(prompt=item.prompt), item, number,
                            lambda text: self._score(text) is not None,
                            attempts=1 if self.protocol == _AUTHORS else 3, reminder=REMINDER)

    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """The score of the last reply."""
        text = last_reply(replies[0], _CALL)
        score = self._score(text)
        if score is None:
            return ItemScore(item.id, item.category, {}, True, f"expected a score from 0 to 100, found {text[:80]!r}")
        return ItemScore(item.id, item.category, {"score": score})

    def _score(self, text: str) -> float | None:
        return hundred_point_score(text, decimals=self.protocol != _AUTHORS)

    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """Ten categories, the composite of the complex ones, and the mean of eight columns."""
        categories = [category for category in VALIDATION if any(item.category == category for item in items)]
        return (*(Total(category, (Term(category, "score"),)) for category in categories),
                Total("complex_composite", complex_terms()), Total(OVERALL, overall_terms()))

    def tables(self, items, scores, replies, results) -> Mapping[str, bytes]:
        """A CSV file for each category, and `summary_results.csv` once the run is complete."""
        tables = {}
        for category in VALIDATION:
            rows = []
            for item in sorted((item for item in items if item.category == category), key=lambda item: int(item.id)):
                if item.id in scores:
                    score = scores[item.id]
                    rows.append({
                        "question_id": item.id, "prompt": item.prompt, "category": category,
                        "image_path": self.image(item, 0), "question_text": self.template.fill(prompt=item.prompt),
                        "score": -1 if score.failed else _plain(score.values["score"]),
                        "full_evaluation_text": last_reply(replies[item.id][0], _CALL)})
            if rows:
                tables[f"{category}.csv"] = csv_bytes(_CSV_FIELDS, rows, mark=True)
        if results["complete"]:
            tables["summary_results.csv"] = csv_bytes(("Variant", "Category", "Mean_Score"), self._summary(results))
        return tables

    def _summary(self, results: Mapping[str, Any]) -> list[dict[str, str]]:
        means = results["scores"]
        rows = {category: means[category]["mean"] for category in VALIDATION if means.get(category)}
        rows |= {"Complex_Composite": means["complex_composite"]["mean"], "Overall_Weighted": means[OVERALL]}
        variant = "no think" if self.drawn_as.endswith("no_think") else "think"
        return [{"Variant": variant, "Category": name, "Mean_Score": f"{mean:.4f}"} for name, mean in rows.items()]


def csv_bytes(fields: Sequence[str], rows: Sequence[Mapping[str, Any]], *, mark: bool = False) -> bytes:
    """A CSV file in UTF-8.

    Args:
      fields: names of the columns.
      rows: their values.
      mark: whether it begins with a mark of byte order.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8-sig" if mark else "utf-8")


def _of_text(name: str, data: bytes) -> list[EvalItem]:
    category = _TEXT_FILES[name]
    first, count = VALIDATION[category]
    lines = data.decode("utf-8-sig").splitlines()
    if len(lines) != count or not all(line.strip() for line in lines):
        raise BadInput(f"{name}: expected {count} prompts, one a line, found {len(lines)} lines.")
    return [EvalItem(str(first + number), category, line.strip()) for number, line in enumerate(lines)]


def _plain(score: float) -> int | float:
    return int(score) if score == int(score) else score
