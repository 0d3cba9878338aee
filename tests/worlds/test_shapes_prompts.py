"""Prompts: one grammar in both directions, and two sets that share nothing."""

import numpy as np
import pytest

from srum_jax.errors import BadInput
from srum_jax.worlds.shapes.prompts import is_held_out, neighbour_of, parse_prompt, prompt_text, sample_prompt
from srum_jax.worlds.shapes.scene import CATEGORIES, Phrase, Prompt, Relation


def _rng(seed):
    return np.random.Generator(np.random.Philox(key=[11, seed]))


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_sampled_prompt_is_parsed_back(category):
    for seed in range(100):
        prompt = sample_prompt(_rng(seed), category)
        assert parse_prompt(prompt_text(prompt), category) == prompt


def test_known_prompts_have_known_texts():
    complex_prompt = Prompt(
        (Phrase("circle", "red", "striped"), Phrase("square", "blue"), Phrase("cross", "green", count=2)),
        Relation("left of"),
    )
    assert prompt_text(complex_prompt) == "a striped red circle left of a blue square and two green crosses"
    assert prompt_text(Prompt((Phrase("ring", "orange"),))) == "an orange ring"
    shapes = Prompt((Phrase("ring"), Phrase("cross"), Phrase("square")))
    assert prompt_text(shapes) == "a ring, a cross and a square"


def test_training_and_held_out_prompts_have_no_sentence_in_common():
    train = {prompt_text(sample_prompt(_rng(seed))) for seed in range(500)}
    held_out = {prompt_text(sample_prompt(_rng(seed), held_out=True)) for seed in range(500)}
    assert not train & held_out
    assert not any(map(is_held_out, train)) and all(map(is_held_out, held_out))


def test_every_category_has_held_out_prompts():
    for category in CATEGORIES:
        assert (
            len({prompt_text(sample_prompt(_rng(seed), category, held_out=True)) for seed in range(60)}) >= 10
        )


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_neighbour_says_one_thing_differently_and_is_of_the_training_set(category):
    changed = set()
    for seed in range(100):
        prompt = sample_prompt(_rng(seed), category)
        other = neighbour_of(prompt, _rng(seed))
        assert parse_prompt(prompt_text(other), category) == other and not is_held_out(prompt_text(other))
        pairs = [(prompt.relation, other.relation, "relation")]
        for ours, theirs in zip(prompt.phrases, other.phrases, strict=True):
            pairs += [(getattr(ours, name), getattr(theirs, name), name) for name in vars(ours)]
        [name] = [name for ours, theirs, name in pairs if ours != theirs]
        changed.add(name)
    stated = {name for phrase in prompt.phrases for name, _ in phrase.stated()}
    assert changed == stated | {"count"} | ({"relation"} if prompt.relation is not None else set())


def test_equal_seeds_give_equal_prompts():
    assert [sample_prompt(_rng(3)) for _ in range(2)] == [sample_prompt(_rng(3))] * 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "red circle",
        "a red",
        "a circle red",
        "two red circle",
        "a orange ring",
        "a red circle near a ring",
        "a circle left of a ring and a cross and a square",
        "seven rings",
        "a red circle and",
    ],
)
def test_other_sentences_are_refused_with_the_text_named(text):
    with pytest.raises(BadInput, match="prompt '"):
        parse_prompt(text)


def test_an_unknown_category_is_refused():
    with pytest.raises(BadInput, match="expected one of color"):
        sample_prompt(_rng(0), "sound")
