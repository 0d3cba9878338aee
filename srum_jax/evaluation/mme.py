"""MME: two questions of yes or no about each picture, ten tasks of perception and four of cognition (section 7)."""

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

# Pictures of each task.
PERCEPTION = {"existence": 30, "count": 30, "position": 30, "color": 30, "posters": 147, "celebrity": 170, "scene": 200,
              "landmark": 200, "artwork": 200, "OCR": 20}
COGNITION = {"commonsense_reasoning": 70, "numerical_calculation": 20, "text_translation": 20, "code_reasoning": 20}
_IN_A_FOLDER = frozenset({"posters", "celebrity", "scene", "landmark", "artwork"})  # their pictures lie in images/
_CALLS = ("first", "second")


def answer_of(text: str) -> str:
    """ "yes", "no" or "other": what stands in the first four characters; true and false are yes and no."""
    start = text.strip().lower().replace("true", "yes").replace("false", "no")[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


class Mme(Benchmark):
    """See `Benchmark`. An item is a picture with its two questions."""

    name: ClassVar[str] = "mme"
    protocols: ClassVar[Mapping[str, str | None]] = {"mme": "mme.txt"}
    placeholders: ClassVar[tuple[str, ...]] = ("$question",)
    max_new_tokens: ClassVar[int] = 20
    official_counts: ClassVar[Mapping[str, int]] = PERCEPTION | COGNITION
    judge: ClassVar[str] = "model"

    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """Of `<task>.txt` for each task: picture, question and truth, separated by tabs."""
        if not files:
            raise BadInput("--prompts: expected <task>.txt for each task of MME, found nothing.")
        items = []
        for name, data in sorted(files.items()):
            task = name.removesuffix(".txt").rpartition("__")[2]
            if task not in self.official_counts:
                raise BadInput(f"{name}: expected a file named after a task: {', '.join(self.official_counts)}.")
            asked: dict[str, list[tuple[str, str]]] = {}
            for number, line in enumerate(data.decode("utf-8-sig").splitlines(), start=1):
                cells = line.split("\t")
                if len(cells) < 3 or cells[2].strip().lower() not in ("yes", "no"):
                    raise BadInput(f"{name}:{number}: expected picture, question and Yes or No, separated by tabs, "
                                   f"found {line[:80]!r}.")
                asked.setdefault(cells[0], []).append((cells[1], cells[2].strip().lower()))
            for number, (image, questions) in enumerate(asked.items()):
                if len(questions) != 2:
                    raise BadInput(f"{name}: {image}: expected two questions, found {len(questions)}.")
                items.append(EvalItem(f"{task}-{number:03d}", task, questions[0][0],
                                      {"image": image, "questions": questions}))
        return tuple(items)

    def image(self, item: EvalItem, number: int) -> str:
        """As in the benchmark's release."""
        folder = f"{item.category}/images" if item.category in _IN_A_FOLDER else item.category
        return f"{folder}/{item.extra['image']}"

    def calls(self, item: EvalItem, number: int) -> Conversation:
        """Both questions, each by itself."""
        for kind, (question, _) in zip(_CALLS, item.extra["questions"], strict=True):
            yield from self.ask(kind, self.template.fill(question=question), item, number)

    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """100 for the share of right answers, and 100 more if both are right."""
        right = [answer_of(last_reply(replies[0], kind)) == truth
                 for kind, (_, truth) in zip(_CALLS, item.extra["questions"], strict=True)]
        accuracy, both = sum(right) / 2, float(all(right))
        return ItemScore(item.id, item.category, {"score": 100 * (accuracy + both), "accuracy": accuracy, "both": both})

    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """Each task of at most 200 points, and their sums: perception of 2000, cognition of 800, all of 2800."""
        def points(tasks: Mapping[str, int]) -> tuple[Term, ...]:
            return tuple(Term(task, "score") for task in tasks)

        return (*(Total(task, (Term(task, "score"),)) for task in self.official_counts),
                Total("perception", points(PERCEPTION)), Total("cognition", points(COGNITION)),
                Total(OVERALL, points(self.official_counts)))

    def tables(self, items, scores, replies, results) -> Mapping[str, bytes]:
        """`<task>.txt` with the answers, as the official scorer reads them."""
        lines: dict[str, bytes] = {}
        for item in items:
            if item.id in scores:
                for kind, (question, truth) in zip(_CALLS, item.extra["questions"], strict=True):
                    said = " ".join(last_reply(replies[item.id][0], kind).split())
                    line = "\t".join((item.extra["image"], question, truth.capitalize(), said))
                    lines[f"{item.category}.txt"] = lines.get(f"{item.category}.txt", b"") + line.encode() + b"\n"
        return lines
