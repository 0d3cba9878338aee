"""The judge's wording: every question and answer is made of known words and survives the tokenizer."""

import numpy as np

from experiments._tiny_bagel.base_files import trained_base_config
from experiments._tiny_bagel.samples import batches_of, capacities, question_and_answer
from experiments._tiny_bagel.settings import SampleSettings
from experiments._tiny_janus.judge_lessons import lessons_about
from experiments._tiny_janus.settings import JanusJudgeSettings
from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes import questions
from srum_jax.worlds.shapes.oracle import judge_image, judge_scene
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.tokenizer import build_tokenizer, vocabulary


def _rng(number):
    return np.random.Generator(np.random.Philox(key=[1, number]))


def _through_the_tokenizer(text):
    tokenizer = build_tokenizer()
    ids = tokenizer.encode(text).ids
    assert 0 not in ids, text
    return tokenizer.decode(ids)


def test_every_question_and_answer_is_made_of_known_words():
    kinds = set()
    for number in range(300):
        lesson = question_and_answer(5, number, SampleSettings(), _rng(number))
        _through_the_tokenizer(lesson.question)
        decoded = _through_the_tokenizer(lesson.answer)
        kinds.add(lesson.kind)
        if lesson.kind != "seen":
            assert questions.read_score(decoded) == questions.read_score(lesson.answer) in questions.SCORE_LEVELS
        if lesson.kind == "region":
            assert questions.read_object(decoded) == questions.read_object(lesson.answer) is not None
    assert kinds == {"seen", "whole", "region"}


def test_questions_about_one_picture_have_the_answers_of_the_oracle_and_half_of_their_objects_are_wrong():
    settings, right = JanusJudgeSettings(), []
    for number in range(60):
        lessons = lessons_about(3, number, settings)
        assert [lesson.kind for lesson in lessons[1:]] == ["whole"] * settings.wholes + ["region"] * settings.regions
        assert lessons[0].kind in ("caption", "seen")
        for lesson in lessons:
            assert np.array_equal(lesson.picture, lessons[0].picture)
            if lesson.kind in ("whole", "region"):
                judgement = judge_image(lesson.question.split(": ")[-1], lesson.picture)
                right_answers = ([questions.whole_answer(judgement)] if lesson.kind == "whole" else
                                 [questions.region_answer(region) for region in judgement.regions])
                assert lesson.answer in right_answers
            if lesson.kind == "region":
                right.append(questions.read_score(lesson.answer) == 1.0)
    assert 0.4 <= np.mean(right) <= 0.6
    for first, again in zip(lessons, lessons_about(3, 59, settings), strict=True):
        assert (first.question, first.answer) == (again.question, again.answer)


def test_only_faithful_pictures_get_the_best_answer():
    for number in range(200):
        example = sample_example(3, number, 0.5)
        judgement = judge_scene(example.prompt, example.scene, questions.PICTURE_SIZE)
        best = questions.read_score(questions.whole_answer(judgement)) == questions.SCORE_LEVELS[-1]
        assert best == (not example.planted)


def test_a_region_is_named_by_hand():
    assert questions.region_question("a red ring", Box(2, 18, 14, 30)) == "object at 2 18 14 30, fit: a red ring"
    larger = questions.region_question("a red ring", Box(20, 0, 96, 48), 96, 96)
    assert larger == "object at 10 0 48 24, fit: a red ring"
    answer = "identified object: solid red ring \n score: -0.5"
    assert questions.read_object(answer) == "solid red ring" and questions.read_score(answer) == -0.5


def test_answers_without_score_or_object_give_nothing():
    assert questions.read_score("solid red ring") is None and questions.read_object("score: 1.0") is None


def test_a_step_learns_from_rows_that_depend_on_its_number_alone():
    config, settings = trained_base_config(), SampleSettings()
    first, again = (batches_of(7, 3, (2, 3), config, settings) for _ in range(2))
    np.testing.assert_array_equal(first.generate.images, again.generate.images)
    np.testing.assert_array_equal(first.understand.text_ids, again.understand.text_ids)
    assert not np.array_equal(first.generate.images, batches_of(7, 4, (2, 3), config, settings).generate.images)
    assert first.understand.ce_weights.any() and first.generate.loss_mask.all()


def test_the_longest_rows_fit_their_buffers():
    config = trained_base_config()
    generate, understand = capacities(config)
    batches_of(0, 0, (400, 400), config, SampleSettings())  # raises CapacityError if not
    assert generate.text <= 20 and understand.text <= 44
    assert len(vocabulary()) <= config.llm.vocab_size
