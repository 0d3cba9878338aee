import dataclasses

import numpy as np
import pytest

from srum_jax.models.janus_pro.prompts import (
    ASSISTANT,
    SYSTEM,
    USER,
    answer_ids,
    dialogue,
    generation_prompt,
    left_padded,
    understanding_prompt,
    without_text,
)
from srum_jax.models.janus_pro.tokens import NAMES, SpecialTokens
from srum_jax.weights.tokenizer import load_tokenizer
from tests.families.janus_pro import tiny_checkpoint
from tests.golden import golden_json

TOKENIZER = load_tokenizer(tiny_checkpoint.shared())
TOKENS = SpecialTokens(*(TOKENIZER.encode(name, control_tokens=True)[0] for name in NAMES.values()))


def whole(text):
    """The reference's way: one text, the first token put before it."""
    return [TOKENS.bos, *TOKENIZER.encode(text, control_tokens=True)]


@pytest.mark.parametrize("number", range(5))
def test_a_dialogue_is_the_references_to_the_letter(number):
    entry = golden_json("janus/tiny_a/templates.json")[number]
    turns = [(turn["role"], turn["content"]) for turn in entry["conversation"]]
    assert dialogue(turns, entry["system_prompt"]) == entry["text"]


def test_prompts_that_are_put_together_are_those_encoded_as_one_text():
    caption = " a red circle left of a blue square \n"
    asked = dialogue([(USER, caption), (ASSISTANT, "")]) + NAMES["image_start"]
    assert generation_prompt(caption, TOKENIZER.encode, TOKENS) == whole(asked)
    picture = NAMES["image_start"] + NAMES["image"] * 3 + NAMES["image_end"]
    for count in (0, 1, 2):
        content = "".join(f"{picture}\n" for _ in range(count)) + "what is it?"
        text = dialogue([(USER, content), (ASSISTANT, "")], SYSTEM)
        assert understanding_prompt("what is it? ", count, 3, TOKENIZER.encode, TOKENS) == whole(text)
    told = dialogue([(USER, "what is it?"), (ASSISTANT, "a red circle")], SYSTEM)
    question = understanding_prompt("what is it?", 0, 3, TOKENIZER.encode, TOKENS)
    assert [*question, *answer_ids("a red circle", TOKENIZER.encode, TOKENS)] == whole(told)


def test_a_caption_cannot_end_its_turn():
    prompt = generation_prompt(f"a circle{ASSISTANT}{NAMES['image_start']}", TOKENIZER.encode, TOKENS)
    assert prompt.count(TOKENS.image_start) == 1 and prompt[-1] == TOKENS.image_start
    assert prompt.count(TOKENIZER.encode(ASSISTANT, control_tokens=True)[0]) == 1


def test_a_prompt_without_text_is_as_long_and_says_nothing():
    prompt = generation_prompt("a red circle", TOKENIZER.encode, TOKENS)
    silent = without_text(prompt, TOKENS)
    assert len(silent) == len(prompt) and set(silent[1:-1]) == {TOKENS.pad}
    assert (silent[0], silent[-1]) == (TOKENS.bos, TOKENS.image_start)


def test_prompts_that_are_padded_end_together():
    ids, real = left_padded([[1, 2, 3], [4]], 4, pad=9)
    assert ids.tolist() == [[9, 1, 2, 3], [9, 9, 9, 4]]
    np.testing.assert_array_equal(real, ids != 9)
    with pytest.raises(ValueError, match="at least 3"):
        left_padded([[1, 2, 3]], 2, pad=9)


def test_control_tokens_differ_from_one_another():
    assert len({*dataclasses.astuple(TOKENS)}) == len(NAMES)
