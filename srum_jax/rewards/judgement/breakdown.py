"""A prompt broken down into yes/no questions, by whoever judges or by hand; what a reply must look like.

One question a line, of three parts:

    object | circle | Is there a circle in the picture?
    attribute | circle | Is the circle red?
    relation | circle | Is the circle left of the square?
"""

import collections
import dataclasses
import enum
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from srum_jax.rewards.judgement.attempts import Asked, Reading, ask
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.settings import JudgeSettings


class QuestionKind(enum.StrEnum):
    """What is asked for."""

    OBJECT = "object"  # that a thing is there
    COUNT = "count"  # how many of it
    ATTRIBUTE = "attribute"  # how it looks
    RELATION = "relation"  # how it stands to another one


OF_REGIONS = (QuestionKind.OBJECT, QuestionKind.ATTRIBUTE)  # what a part of a picture can show by itself


@dataclasses.dataclass(frozen=True)
class YesNoQuestion:
    """One question about a picture; "yes" is right for a picture that fits."""

    kind: QuestionKind
    object: str  # what it is about; the same words in all questions about one thing
    text: str


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """The questions of one reply."""

    questions: tuple[YesNoQuestion, ...]
    problems: Mapping[str, int]


def read_breakdown(reply: str, max_questions: int) -> Reading[Breakdown]:
    """Reads a reply; a line that is not plainly a question of three parts counts as a problem and is left out.

    Args:
      reply: of the judge.
      max_questions: those after so many are left out too.
    """
    questions: list[YesNoQuestion] = []
    problems: collections.Counter[str] = collections.Counter()
    for line in filter(None, map(str.strip, reply.splitlines())):
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3 or not all(parts):
            problems["malformed_question"] += 1
        elif parts[0].lower() not in tuple(QuestionKind):
            problems["unknown_question_kind"] += 1
        elif not parts[2].endswith("?"):  # one that was cut off, among others
            problems["not_a_question"] += 1
        elif any(question.text == parts[2] for question in questions):
            problems["repeated_question"] += 1
        elif len(questions) == max_questions:
            problems["too_many_questions"] += 1
        else:
            questions.append(YesNoQuestion(QuestionKind(parts[0].lower()), parts[1], parts[2]))
    readable = not problems.keys() & {"malformed_question", "unknown_question_kind", "not_a_question"}
    missing = ("every line must be KIND | OBJECT | QUESTION? with a kind among " + ", ".join(QuestionKind)
               if not readable else "no question was found in it")
    return Reading(Breakdown(tuple(questions), dict(problems)), len(questions), bool(questions) and readable, missing)


def break_down(
    prompt: str, settings: JudgeSettings, templates: JudgeTemplates
) -> Generator[Call, Reply, dict[str, Any]]:
    """Asks for the questions of a prompt, no picture being shown; the best reply counts.

    Returns:
      `questions` (possibly none), `attempts`, `calls` and `problems` of all replies, ready for JSON.
    """
    text = templates["breakdown"].fill(prompt=prompt, max_questions=str(settings.max_questions))
    asked: Asked[Breakdown] = yield from ask(
        prompt, "breakdown", text, lambda reply: read_breakdown(reply, settings.max_questions), settings, templates)
    questions = asked.best.parsed.questions if asked.best else ()
    return {"prompt": prompt, "questions": as_json(questions), "attempts": asked.attempts, "calls": asked.calls,
            "problems": dict(sorted(asked.problems.items()))}


def as_json(questions: Sequence[YesNoQuestion]) -> list[dict[str, str]]:
    """For `checked_questions`."""
    return [{"kind": str(question.kind), "object": question.object, "text": question.text} for question in questions]


def checked_questions(entries: Any) -> tuple[YesNoQuestion, ...]:
    """Questions from JSON.

    Raises:
      ValueError: naming the field, what was expected and what was found.
    """
    if not isinstance(entries, list):
        raise ValueError(f"field 'questions': expected a list, found {type(entries).__name__}")
    questions = []
    for number, entry in enumerate(entries):
        place = f"field 'questions[{number}]"
        if not isinstance(entry, dict):
            raise ValueError(f"{place}': expected an object, found {type(entry).__name__}")
        if entry.get("kind") not in tuple(QuestionKind):
            raise ValueError(f"{place}.kind': expected one of {', '.join(QuestionKind)}, found {entry.get('kind')!r}")
        for name in ("object", "text"):
            if not isinstance(entry.get(name), str) or not entry[name].strip():
                raise ValueError(f"{place}.{name}': expected a text, found {entry.get(name)!r}")
        questions.append(YesNoQuestion(QuestionKind(entry["kind"]), entry["object"], entry["text"]))
    return tuple(questions)
