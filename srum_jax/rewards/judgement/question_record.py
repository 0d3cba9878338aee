"""From the probabilities of "yes" to scores: of a picture, and of its regions."""

from collections.abc import Mapping, Sequence
from typing import Any

from srum_jax.rewards.judgement.breakdown import OF_REGIONS, QuestionKind, YesNoQuestion
from srum_jax.rewards.judgement.judge_record import ABSENT, SKIPPED, Subject, judged_region, layout_score
from srum_jax.rewards.judgement.judge_reply import ReplyStatus
from srum_jax.rewards.judgement.score_processing import Unmatched
from srum_jax.rewards.judgement.settings import JudgeSettings
from srum_jax.rewards.proposals import Proposal

Answered = tuple[YesNoQuestion, float]  # with p(yes) in [0, 1]


def score_of(answered: Sequence[Answered]) -> float:
    """2 m - 1 in [-1, 1], with m the arithmetic mean of p(yes): the share of what was asked for that is there.

    Not the product (or geometric mean), which would be the chance that everything holds if answers were independent:
    they are not, and one question that a model cannot answer would take every picture's score.
    """
    return 2 * sum(probability for _, probability in answered) / len(answered) - 1


def objects_of(questions: Sequence[YesNoQuestion]) -> dict[str, YesNoQuestion]:
    """The question whether it is there, by object; objects without one cannot be found in a region."""
    found: dict[str, YesNoQuestion] = {}
    for question in questions:
        if question.kind is QuestionKind.OBJECT:
            found.setdefault(question.object, question)
    return found


def question_record(
    subject: Subject,
    broken_down: Mapping[str, Any],
    answered: Sequence[Answered],
    regions: Sequence[tuple[Proposal, Sequence[Answered]]],
    settings: JudgeSettings,
) -> dict[str, Any]:
    """The record of one image, in the form of the other judges, with `questions` besides.

    A region shows the object whose question of kind "object" gets the highest p(yes) in it. Its score comes from all
    questions about that object: those that a part can answer as asked about the region, counts and relations as
    answered for the picture. Where no p(yes) reaches one half it shows none of them and has no score
    (`judge.unmatched=keep`: the score of the nearest).

    Args:
      subject: the image.
      broken_down: of its prompt, from `break_down`.
      answered: all questions, about the picture.
      regions: chosen ones, with the questions of OF_REGIONS asked about each.
      settings: of the run.
    """
    kept, asked = [], [_answer(question, probability) for question, probability in answered]
    dropped = [{"box": list(item.box), "verdict": None, "why": "limit"}
               for item in subject.proposals[settings.max_regions :]]
    for proposal, about in regions:
        asked += [{**_answer(question, probability), "box": list(proposal.box)} for question, probability in about]
        present = [item for item in about if item[0].kind is QuestionKind.OBJECT]
        if not present:
            dropped.append({"box": list(proposal.box), "verdict": None, "why": "unjudged"})
            continue
        best, probability = max(present, key=lambda item: item[1])
        matches = probability >= 0.5
        if not matches and settings.unmatched is not Unmatched.KEEP:
            dropped.append({"box": list(proposal.box), "verdict": "unmatched", "why": "policy"})
            continue
        own = [item for item in about if item[0].object == best.object]
        own += [item for item in answered if item[0].object == best.object and item[0].kind not in OF_REGIONS]
        score = score_of(own)
        kept.append(judged_region(
            proposal, score, score, object=best.object, reason=_told(own), claim=best.object,
            keyword=next((word for word in subject.keywords if matches and word in best.object.split()), None),
            verdict="match" if matches else "unmatched"))
    layout = None
    if answered and settings.layout:
        layout = layout_score(score_of(answered), _told(answered), subject, settings)
    known = ReplyStatus.OK if answered else ReplyStatus.UNPARSED
    return {
        "record_id": subject.record_id, "mode": "region", "identify_status": str(known),
        "local_status": str(known if kept or not answered else SKIPPED),
        "global_status": str(known if settings.layout else ABSENT), "attempts": [broken_down["attempts"], 0, 0],
        "regions": kept, "dropped": dropped, "missing_keywords": [], "global": layout,
        "calls": list(broken_down["calls"]), "problems": dict(broken_down["problems"]), "questions": asked,
    }


def _answer(question: YesNoQuestion, probability: float) -> dict[str, Any]:
    return {"kind": str(question.kind), "object": question.object, "text": question.text, "yes": probability}


def _told(answered: Sequence[Answered]) -> str:
    return "; ".join(f"{question.text} {probability:.3f}" for question, probability in answered)
