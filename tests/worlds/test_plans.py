"""Plans of tidy pictures: text and back, and what the oracle says of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments._tiny_think.plans import THINK_TEMPLATES, PlanError, parse_plan, plan_fits, plan_text
from srum_jax.inference.templates import Templates
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.layout import draft_of, lay_out_tidily
from srum_jax.worlds.shapes.mistakes import plant, possible_mistakes
from srum_jax.worlds.shapes.prompts import parse_prompt, prompt_text, sample_prompt
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.scene import CATEGORIES
from srum_jax.worlds.shapes.tokenizer import UNKNOWN, build_tokenizer

PLANNED = {
    "a striped red circle left of a blue square": "striped red circle left, solid blue square right",
    "two red rings and a green cross": "solid red ring left, solid red ring, solid green cross right",
    "a red triangle smaller than a pink ring": "smaller solid red triangle left, solid pink ring right",
    "a red triangle in front of a purple circle": "solid purple circle behind, solid red triangle in front right",
}


@pytest.mark.parametrize("sentence", PLANNED)
def test_a_plan_lists_every_object_with_its_looks_and_its_place(sentence):
    scene = lay_out_tidily(draft_of(parse_prompt(sentence), np.random.default_rng(0)))
    assert plan_text(scene) == PLANNED[sentence]
    assert plan_fits(parse_prompt(sentence), PLANNED[sentence])


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), wrong=st.sampled_from((0.0, 1.0)))
def test_a_plan_read_again_is_the_very_picture_and_its_words_are_the_tokenizers(seed, wrong):
    example = sample_example(seed, 0, wrong, tidy=True)
    text = plan_text(example.scene)
    tokenizer = build_tokenizer()
    ids = tokenizer.encode(text).ids
    decoded = " ".join(tokenizer.id_to_token(token) for token in ids)
    assert UNKNOWN not in decoded and len(ids) <= 41
    again = parse_plan(decoded)
    assert plan_text(again) == text
    assert np.array_equal(render(again, PICTURE_SIZE).image, render(example.scene, PICTURE_SIZE).image)
    assert plan_fits(example.prompt, decoded) == (not example.planted)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_planted_mistake_is_found_in_the_plan(category):
    rng = np.random.default_rng(3)
    for _ in range(8):
        prompt = sample_prompt(rng, category)
        draft = draft_of(prompt, rng)
        for kind in possible_mistakes(prompt):
            wrong, planted = plant(prompt, draft, kind, rng)
            assert planted and not plan_fits(prompt, plan_text(lay_out_tidily(wrong))), (prompt_text(prompt), kind)


@pytest.mark.parametrize(("text", "message"), [
    ("", "expected a texture"),
    ("solid red", "expected a shape .* found 'the end'"),
    ("red circle left", "expected a texture"),
    ("solid red circle left above", "expected a place such as 'above left'"),
    ("solid red circle, solid red ring", "two in one"),
    ("solid red circle left,", "expected a texture"),
    ("solid red circle behind", "expected a place"),
    ("solid red circle behind, solid blue square left", "expected 'in front' and a place"),
    ("solid red circle behind, solid blue square in front", "expected the object in front beside the middle"),
    ("solid red circle left, solid blue square in front left", "expected a place"),
    ("smaller smaller solid red circle", "expected a texture"),
])
def test_what_is_no_plan_is_refused(text, message):
    with pytest.raises(PlanError, match=message):
        parse_plan(text)


def test_scenes_without_words_for_their_places_have_no_plan():
    scene = sample_example(1, 0, 0.0, tidy=True).scene
    moved = dataclasses.replace(scene.shapes[0], center_x=scene.shapes[0].center_x + 0.1)
    with pytest.raises(PlanError, match="only tidy scenes have plans"):
        plan_text(dataclasses.replace(scene, shapes=(moved, *scene.shapes[1:])))
    resized = dataclasses.replace(scene.shapes[0], side=0.5)
    with pytest.raises(PlanError, match="expected one of"):
        plan_text(dataclasses.replace(scene, shapes=(resized,)))


def test_the_instruction_is_in_words_that_the_model_knows():
    assert UNKNOWN not in build_tokenizer().encode(Templates.read(THINK_TEMPLATES).think_generation).tokens
