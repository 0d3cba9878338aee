"""What a judge in the world of shapes is asked and how it answers: a small fixed wording of the tokenizer's words.

    seen     what is in the picture                               -> solid red circle, striped ring
    whole    does the picture fit: PROMPT                         -> score: 0.5
    region   object at 2 18 14 30, fit: PROMPT                    -> identified object: solid red circle
                                                                     score: -1.0
    caption  what does the picture fit                            -> a sentence of the grammar (tiny Janus-Pro alone)

Yes/no questions of `make_rewards judge --mode questions` use the same wording: the base has learned no other. It finds
a picture wrong that shows more than it is asked for, so every one of `yes_no_questions` names all objects of a prompt.

Scores are the oracle's, rounded to the levels below. Objects come from top to bottom, and from left to right where
tops are equal. A box is x0 y0 x1 y1 in 48ths of the picture's sides, half-open, from the top left corner.
"""

import dataclasses

from etils import epath

from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.breakdown import QuestionKind, YesNoQuestion
from srum_jax.rewards.judgement.judge_reply import parse_image_reply
from srum_jax.worlds.shapes.oracle import Judgement, RegionScore
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.scene import Phrase, Prompt

PICTURE_SIZE = 48  # pixels of the tiny model's pictures, and the unit of boxes
SCORE_LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)
JUDGE_TEMPLATES = epath.Path(__file__).parent / "judge_templates.toml"  # the same wording for `make_rewards judge`
SEEN_QUESTION = "what is in the picture"
CAPTION_QUESTION = "what does the picture fit"
NOTHING = "nothing"


def whole_question(prompt: str) -> str:
    """Asks how well the whole picture fits a prompt."""
    return f"does the picture fit: {prompt}"


def region_question(prompt: str, box: Box, width: int = PICTURE_SIZE, height: int = PICTURE_SIZE) -> str:
    """Asks what lies in a box, and how well that fits a prompt.

    Args:
      prompt: of the picture.
      box: half-open pixels.
      width: of the picture, in pixels.
      height: likewise.
    """
    corners = zip((box.x0, box.y0, box.x1, box.y1), (width, height) * 2, strict=True)
    numbers = (min(max(round(value * PICTURE_SIZE / side), 0), PICTURE_SIZE) for value, side in corners)
    return f"object at {' '.join(map(str, numbers))}, fit: {prompt}"


def yes_no_questions(prompt: Prompt) -> list[YesNoQuestion]:
    """What a prompt is broken down into: its objects one by one (with their attributes, those of the others left
    open), their number if there are several of a kind, and the relation.
    """
    bare = tuple(Phrase(phrase.shape, count=phrase.count) for phrase in prompt.phrases)
    names = [prompt_text(Prompt((dataclasses.replace(phrase, count=1),))) for phrase in prompt.phrases]
    asked = []
    for number, (name, phrase) in enumerate(zip(names, prompt.phrases, strict=True)):
        phrases = (*bare[:number], phrase, *bare[number + 1 :])
        asked.append(YesNoQuestion(QuestionKind.OBJECT, name, prompt_text(Prompt(phrases))))
    several = [name for name, phrase in zip(names, prompt.phrases, strict=True) if phrase.count > 1]
    if several:
        asked.append(YesNoQuestion(QuestionKind.COUNT, several[0], prompt_text(Prompt(prompt.phrases))))
    if prompt.relation is not None:
        asked.append(YesNoQuestion(QuestionKind.RELATION, names[prompt.relation.subject], prompt_text(prompt)))
    return asked


def seen_answer(judgement: Judgement) -> str:
    """The right answer to SEEN_QUESTION."""
    return ", ".join(region.object for region in judgement.regions) or NOTHING


def whole_answer(judgement: Judgement) -> str:
    """The right answer to `whole_question`; the best score is for faithful pictures only."""
    score = rounded(judgement.global_score)
    return f"score: {score if judgement.correct else min(score, SCORE_LEVELS[-2])}"


def region_answer(region: RegionScore) -> str:
    """The right answer to `region_question`."""
    return f"identified object: {region.object}\nscore: {rounded(region.score)}"


def rounded(score: float) -> float:
    """The nearest of SCORE_LEVELS."""
    return min(SCORE_LEVELS, key=lambda level: abs(level - score))


def read_score(answer: str) -> float | None:
    """The score of an answer; None if it plainly states none."""
    return parse_image_reply(answer).fields.score.value


def read_object(answer: str) -> str | None:
    """The object that a region's answer names; None if it names none."""
    return parse_image_reply(answer.lower()).fields.object or None
