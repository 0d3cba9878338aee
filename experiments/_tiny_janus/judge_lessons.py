"""Many questions about each picture, with sentences that fit it almost, for a judge that has to compare the two.

The joint stage asks one question about a picture, and two regions in three are right: a judge that answers with the
best score whatever it sees is seldom wrong. Here sentences differ from what is seen in one word, wrong objects are
asked about nearly as often as right ones, and a picture serves for several sentences: it is the sentence that decides.
"""

import numpy as np

from experiments._tiny_bagel.samples import QuestionAndAnswer
from experiments._tiny_janus.settings import JanusJudgeSettings
from srum_jax.worlds.shapes import questions
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.oracle import Judgement, RegionScore, judge
from srum_jax.worlds.shapes.prompts import neighbour_of, prompt_text, sample_prompt
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.scene import Prompt
from srum_jax.worlds.shapes.sight import sight_of_scene

_PICTURES, _QUESTIONS = (stream << 32 for stream in (15, 16))  # streams of randomness; see `samples`


def judge_lessons(seed: int, settings: JanusJudgeSettings) -> list[QuestionAndAnswer]:
    """What the stage asks."""
    views = min(settings.views, settings.steps * settings.questions)  # no more than the steps can choose
    return [lesson for number in range(views) for lesson in lessons_about(seed, number, settings)]


def lessons_about(seed: int, number: int, settings: JanusJudgeSettings) -> list[QuestionAndAnswer]:
    """All questions about one picture, with right answers; a function of the seed and its number alone."""
    rng = np.random.Generator(np.random.Philox(key=[seed + _QUESTIONS, number]))
    tidy = bool(rng.random() < settings.tidy)
    example = sample_example(seed + _PICTURES, number, settings.wrong_pictures, tidy=tidy)
    picture, sight = render(example.scene, PICTURE_SIZE).image, sight_of_scene(example.scene, PICTURE_SIZE)
    own = judge(example.prompt, sight)
    said = ((questions.CAPTION_QUESTION, prompt_text(example.prompt)) if own.correct
            else (questions.SEEN_QUESTION, questions.seen_answer(own)))
    lessons = [QuestionAndAnswer("caption" if own.correct else "seen", picture, *said)]
    for place in range(settings.wholes + settings.regions):
        prompt = _asked_for(example.prompt, settings, rng)
        judgement, text = judge(prompt, sight), prompt_text(prompt)
        if place < settings.wholes:
            said = questions.whole_question(text), questions.whole_answer(judgement)
            lessons.append(QuestionAndAnswer("whole", picture, *said))
        else:
            region = _chosen(judgement, settings, rng)
            said = questions.region_question(text, region.box), questions.region_answer(region)
            lessons.append(QuestionAndAnswer("region", picture, *said))
    return lessons


def _asked_for(prompt: Prompt, settings: JanusJudgeSettings, rng: np.random.Generator) -> Prompt:
    kind = rng.random()
    if kind < settings.near_prompts:
        return neighbour_of(prompt, rng)
    return sample_prompt(rng, prompt.category) if kind < settings.near_prompts + settings.strange_prompts else prompt


def _chosen(judgement: Judgement, settings: JanusJudgeSettings, rng: np.random.Generator) -> RegionScore:
    wrong = rng.random() < settings.wrong_regions
    regions = [region for region in judgement.regions if (region.score < 1.0) == wrong] or judgement.regions
    return regions[rng.integers(len(regions))]
