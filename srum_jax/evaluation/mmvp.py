"""MMVP: pairs of pictures that look alike to CLIP, one question with two options about each (spec: section 7)."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import (
    OVERALL,
    Benchmark,
    Conversation,
    EvalItem,
    ItemScore,
    JudgeReply,
    Term,
    Total,
    last_reply,
)
from srum_jax.storage.atomic_file import as_json_lines

_COLUMNS = ("Index", "Question", "Options", "Correct Answer")
_CALL, _CATEGORY = "answer", "pairs"
_LETTER = re.compile(r"\(([ab])\)|^\W*([ab])\b|\b([ab])\W*$", re.IGNORECASE)


def option_of(text: str) -> str | None:
    """ "a" or "b": the first in brackets, or the one that begins or ends the answer; None without one."""
    found = _LETTER.search(text.strip())
    return None if found is None else next(filter(None, found.groups())).lower()


class Mmvp(Benchmark):
    """See `Benchmark`. An item is a pair of pictures."""

    name: ClassVar[str] = "mmvp"
    protocols: ClassVar[Mapping[str, str | None]] = {"mmvp": "mmvp.txt"}
    placeholders: ClassVar[tuple[str, ...]] = ("$question", "$options")
    max_new_tokens: ClassVar[int] = 100
    images_per_item: ClassVar[int] = 2
    official_counts: ClassVar[Mapping[str, int]] = {_CATEGORY: 150}
    judge: ClassVar[str] = "model"

    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """Of `Questions.csv`; lines 1 and 2 are a pair, 3 and 4 the next."""
        if len(files) != 1:
            raise BadInput(f"--prompts: expected Questions.csv alone, found {sorted(files) or 'nothing'}.")
        (name, data), = files.items()
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        questions = []
        for number, row in enumerate(rows, start=2):
            if not all(row.get(column) for column in _COLUMNS):
                raise BadInput(f"{name}:{number}: expected the columns {', '.join(_COLUMNS)}, found {list(row)}.")
            truth = option_of(row["Correct Answer"])
            if truth is None or row["Index"] != str(number - 1):
                raise BadInput(f"{name}:{number}: expected index {number - 1} and the answer (a) or (b), found "
                               f"{row['Index']!r} and {row['Correct Answer']!r}.")
            questions.append({"question": row["Question"], "options": row["Options"], "truth": truth})
        if len(questions) % 2 or not questions:
            raise BadInput(f"{name}: expected pairs of questions, found {len(questions)}.")
        return tuple(EvalItem(f"{first // 2 + 1:03d}", _CATEGORY, questions[first]["question"],
                              {"questions": questions[first : first + 2], "index": first + 1})
                     for first in range(0, len(questions), 2))

    def image(self, item: EvalItem, number: int) -> str:
        """`MMVP Images/<index>.jpg`."""
        return f"MMVP Images/{item.extra['index'] + number}.jpg"

    def calls(self, item: EvalItem, number: int) -> Conversation:
        """The question about one picture of the pair."""
        asked = item.extra["questions"][number]
        text = self.template.fill(question=asked["question"], options=asked["options"])
        yield from self.ask(_CALL, text, item, number)

    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """100 if both answers are right."""
        right = [option_of(last_reply(found, _CALL)) == asked["truth"]
                 for found, asked in zip(replies, item.extra["questions"], strict=True)]
        return ItemScore(item.id, item.category, {"score": 100.0 * all(right), "accuracy": 100 * sum(right) / 2})

    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """Percent of single answers, and of pairs."""
        return (Total("single_answers", (Term(_CATEGORY, "accuracy"),)), Total(OVERALL, (Term(_CATEGORY, "score"),)))

    def tables(self, items, scores, replies, results) -> Mapping[str, bytes]:
        """`results.jsonl` as the official scorer reads it."""
        lines = [{"question": asked["question"], "answer": last_reply(found, _CALL),
                  "gt_answers": f"({asked['truth']})", "data_id": item.extra["index"] + number}
                 for item in items if item.id in scores
                 for number, (found, asked) in enumerate(zip(replies[item.id], item.extra["questions"], strict=True))]
        return {"results.jsonl": as_json_lines(lines)}
