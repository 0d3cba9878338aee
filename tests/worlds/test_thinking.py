"""Training rows of think mode: the very context that inference makes, and a control with the same pictures."""

import dataclasses

import numpy as np
import pytest

from experiments._tiny_bagel.base_files import trained_base_config
from experiments._tiny_bagel.samples import words
from experiments._tiny_bagel.settings import SampleSettings, ThinkSettings
from experiments._tiny_bagel.thinking import instruction, plan_capacity, planned_sample, three_batches
from experiments._tiny_think.plans import MAX_PLAN_TOKENS, plan_text
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.tokenizer import SPECIAL_TOKENS

CONFIG = trained_base_config()
BOS, EOS, START, END = (SPECIAL_TOKENS.bos, SPECIAL_TOKENS.eos, SPECIAL_TOKENS.start_of_image,
                        SPECIAL_TOKENS.end_of_image)


def sample(number, **changes):
    samples = dataclasses.replace(SampleSettings(), **changes)
    return planned_sample(5, number, CONFIG, samples, np.random.default_rng(number))


@pytest.mark.parametrize("number", range(6))
def test_a_planned_row_is_instruction_prompt_plan_and_picture_in_this_order(number):
    packed = sample(number, text_dropout=0.0)
    example = sample_example(5, number, SampleSettings().wrong_captions, tidy=True)
    plan = words(plan_text(example.scene))
    texts = [list(instruction()), words(prompt_text(example.prompt)), plan]
    marked = [token for text in texts for token in (BOS, *text, EOS)]
    assert packed.text_ids.tolist() == [*marked, START, END]
    assert packed.split_modes == ("causal", "causal", "causal", "noise")
    assert packed.position[: len(marked)].tolist() == list(range(len(marked)))
    assert set(packed.position[len(marked) :].tolist()) == {len(marked)}  # the whole picture, at one place
    # The plan is predicted, from its starting marker to its end; nothing else is.
    assert packed.ce_labels.tolist() == [*plan, EOS]
    assert packed.ce_places.tolist() == list(range(len(marked) - len(plan) - 2, len(marked) - 1))


def test_the_instruction_stays_where_prompt_and_plan_are_left_out_together():
    packed = sample(0, text_dropout=1.0)
    assert packed.text_ids.tolist() == [BOS, *instruction(), EOS, START, END]
    assert not len(packed.ce_places)


def test_every_row_fits_its_buffers():
    capacity = plan_capacity(CONFIG)
    packed = [sample(number, wrong_captions=1.0, text_dropout=0.0) for number in range(400)]
    assert max(len(row.text_ids) for row in packed) <= capacity.text
    assert 30 < max(len(row.ce_labels) for row in packed) <= capacity.ce == MAX_PLAN_TOKENS + 1


def test_the_control_has_the_same_pictures_times_and_captions_left_out():
    settings = ThinkSettings(planned=12, pictures=2, questions=2)
    planned, control = (three_batches(3, 1, CONFIG, dataclasses.replace(settings, plans=plans), SampleSettings())
                        for plans in (True, False))
    assert np.array_equal(planned.planned.images, control.planned.images)
    assert np.array_equal(planned.planned.timestep_logit, control.planned.timestep_logit)
    empty = [np.sum(batch.planned.text.sample >= 0, axis=1) for batch in (planned, control)]
    assert np.array_equal(empty[0] == len(instruction()) + 4, empty[1] == 2)
    assert np.any(planned.planned.ce_weights > 0) and control.planned.ce_weights.size == 0
    for name in ("pictures", "questions"):
        assert np.array_equal(getattr(planned, name).text_ids, getattr(control, name).text_ids)
