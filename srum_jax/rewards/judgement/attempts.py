"""Asking until a reply can be read, and no more often than that makes sense."""

import collections
import dataclasses
from collections.abc import Callable, Generator, Mapping
from typing import Generic, Protocol, TypeVar

from srum_jax.rewards.judgement.calls import Call, Reply, call_seed
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.settings import JudgeSettings, Retry


class _ReadReply(Protocol):
    problems: Mapping[str, int]  # of the reply, counted


Parsed = TypeVar("Parsed", bound=_ReadReply)
_SAMPLED_TEMPERATURE = 0.3
_FIRST_SAMPLED, _FIRST_WITHOUT_THINK = 3, 4  # attempts


@dataclasses.dataclass(frozen=True)
class Reading(Generic[Parsed]):
    """How good a parsed reply is."""

    parsed: Parsed
    quality: int  # regions read, or 1 for an image's score; the best reply is kept
    enough: bool  # no further attempt is needed
    missing: str  # what the next attempt is told


@dataclasses.dataclass
class Asked(Generic[Parsed]):
    """What came of one question."""

    best: Reading[Parsed] | None  # None: no reply was healthy
    attempts: int
    calls: list[dict]  # for the record
    problems: collections.Counter[str]  # of all replies, those that were asked for again included


def ask(
    record_id: str,
    kind: str,
    text: str,
    read: Callable[[str], Reading[Parsed]],
    settings: JudgeSettings,
    templates: JudgeTemplates,
) -> Generator[Call, Reply, Asked[Parsed]]:
    """Yields calls, takes replies, returns the best of them.

    The second attempt says what was missing; the third samples; the fourth leaves out thinking; later ones take new
    seeds (spec: reward stage, section 11). With `Retry.REPEAT` the attempt that would only repeat itself is counted
    as "deterministic_retry" and not made.

    Args:
      record_id: of the image, or of a region that has a call of its own; for seeds.
      kind: name of the template.
      text: the question.
      read: parses a reply.
      settings: of the run.
      templates: for limits and the repair sentence.
    """
    template = templates[kind]
    thinks = settings.think if template.think is None else template.think
    asked: Asked[Parsed] = Asked(None, 0, [], collections.Counter())
    for attempt in range(1, settings.max_attempts + 1):
        question = text
        if attempt > 1:
            if settings.retry is Retry.REPEAT:
                asked.problems["deterministic_retry"] += 1
                break
            missing = "nothing was found in it" if asked.best is None else asked.best.missing
            question = f"{text}\n\n{templates['repair'].fill(missing=missing)}"
        sampled = attempt >= _FIRST_SAMPLED
        call = Call(
            kind, attempt, question, template.max_new_tokens, thinks and attempt < _FIRST_WITHOUT_THINK,
            _SAMPLED_TEMPERATURE if sampled else None, call_seed(record_id, kind, attempt) if sampled else 0,
            template.sha256, record_id,
        )
        reply = yield call
        asked.attempts = attempt
        asked.calls.append({
            "kind": kind, "attempt": attempt, "num_tokens": reply.num_tokens,
            "finish_reason": ("stop" if reply.finished else "length") if reply.healthy else "non_finite",
            "template_sha256": template.sha256, "text": reply.text,
        })
        if not reply.healthy:
            asked.problems["non_finite"] += 1
            continue
        if not reply.finished:
            asked.problems["truncated"] += 1
        reading = read(reply.text)
        asked.problems.update(reading.parsed.problems)
        if asked.best is None or reading.quality > asked.best.quality:
            asked.best = reading
        if reading.enough:
            break
    return asked
