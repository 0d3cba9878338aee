"""What a pipeline tells its model, in which order, seen by programs that only listen."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from srum_jax.errors import Failure
from srum_jax.families.bagel import programs
from srum_jax.families.bagel.conversation import Conversation
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.inference.batch_shapes import bucket
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import ImageRequest, Question
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.templates import Templates
from srum_jax.inference.text_decoding import DecodedText
from tests.families.bagel.small_pipeline import NumberTokenizer, draw, pipeline_of
from tests.models.packs import small_config

BOS, EOS = 60, 61
PHOTO = np.zeros((40, 28, 3), np.uint8)  # becomes 32 x 24 pixels
THREE = FlowSampler(2, guidance=Guidance(4.0, 1.5), edit_guidance=None)
TEMPLATES = Templates("1 1 <think> </think>", "2 2 <think> </think>")
TAGS = NumberTokenizer().encode("<think> </think>")
PLANNING, REASONING = (("text", (BOS, n, n, *TAGS, EOS)) for n in (1, 2))
LATENTS, PATCHES = ("latents", 48), ("patches", 12)


@dataclasses.dataclass(frozen=True)
class Told:
    """A context that is the list of what the first row was told."""

    capacity: int
    used: int = 0
    items: tuple = ()

    def bookmark(self):
        return self

    def at(self, bookmark):
        return bookmark

    def and_then(self, kind, content, width):
        assert self.used + width <= self.capacity, "a chunk that does not fit would overwrite others"
        items = (*self.items, (kind, content)) if content else self.items
        return Told(self.capacity, self.used + width, items)


class Listener:
    """Stands in for `Programs`."""

    config, rows_multiple, least_text = small_config(), 1, 0
    model = types.SimpleNamespace(vit=True)

    def __init__(self, written=(7, 8), finished=True, healthy=True, latent=0.0):
        self.reply = (BOS, *written)
        self.finished, self.healthy, self.latent = finished, healthy, latent
        self.before_text, self.branches, self.capacity, self.keys = None, None, None, {}

    def call(self, program, *arguments):
        (name,) = (name.lower() for name, value in vars(programs).items() if value is program)
        return getattr(self, name)(*arguments)

    def fetch(self, arrays):
        return arrays

    def own_rows(self, count):
        return np.ones(count, bool)

    def empty_context(self, rows, capacity):
        return Told(capacity)

    def grow(self, context, slots):
        return dataclasses.replace(context, capacity=context.capacity + slots)

    def prefill_text(self, context, token_ids, num_tokens):
        return context.and_then("text", tuple(token_ids[0, : num_tokens[0]].tolist()), token_ids.shape[1])

    def prefill_patches(self, context, patches, position_ids, num_patches):
        return context.and_then("patches", int(num_patches[0]), patches.shape[1] + 2)

    def prefill_latents(self, context, latent, position_ids, num_latents):
        return context.and_then("latents", int(num_latents[0]), latent.shape[1] + 2)

    def encode_images(self, images, keys):
        self.keys["posterior"] = keys
        return np.zeros((len(images), 48, 16), np.float32)

    def write_text(self, context, keys, active, sampler):
        self.before_text, self.keys["text"] = context.items, keys
        rows = len(active)
        return DecodedText(np.array([self.reply] * rows), np.full(rows, len(self.reply)),
                           np.full(rows, self.finished), np.full(rows, self.healthy), None)

    def sample_latents(self, contexts, keys, layout, sampler):
        self.branches, self.keys["noise"] = [context.items for context in contexts], keys
        self.capacity = contexts[0].capacity
        return np.full((*layout.position_ids.shape, 16), self.latent, np.float32)

    def decode_images(self, latent, rows, columns):
        pixels, moments = np.zeros((len(latent), rows * 4, columns * 4, 3), np.uint8), np.zeros((len(latent), 1, 1, 2))
        return pixels, moments, True


def told_to(listener: Listener):
    return pipeline_of(listener, TEMPLATES)


def prompt(*tokens):
    return ("text", (BOS, *tokens, EOS))


def test_a_plain_image_is_told_its_prompt_and_guidance_nothing():
    listener = Listener()
    image = draw(told_to(listener), [ImageRequest("5 6", 0)], FlowSampler(2))[0]
    assert listener.branches == [(prompt(5, 6),), ()]
    assert image.plan is None and not image.plan_truncated


def test_a_planned_edit_tells_each_branch_of_guidance_its_share():
    listener = Listener()
    image = draw(told_to(listener), [ImageRequest("5 6", 0, image=PHOTO)], THREE, plan=TextSampler(9))[0]
    assert listener.before_text == (PLANNING, LATENTS, PATCHES, prompt(5, 6))
    assert listener.branches == [
        (PLANNING, LATENTS, PATCHES, prompt(5, 6), prompt(7, 8)),
        (PLANNING, LATENTS, PATCHES),
        (PLANNING, prompt(5, 6)),
    ]
    assert image.plan == "7 8" and not image.plan_truncated


def test_a_row_without_image_is_told_none_beside_an_edit():
    listener = Listener()
    requests = [ImageRequest("5 6", 0, 16, 16), ImageRequest("7", 1, image=PHOTO)]
    images = draw(told_to(listener), requests, THREE)
    assert listener.branches == [(prompt(5, 6),), (), (prompt(5, 6),)]
    assert [image.pixels.shape for image in images] == [(16, 16, 3), (32, 24, 3)]


def test_a_question_comes_after_its_images_and_reasoning_is_asked_for_first():
    listener = Listener(finished=False)
    question = Question("5 6", (PHOTO, PHOTO))
    answer = told_to(listener).answer([question], think=True)[0]
    assert listener.before_text == (REASONING, PATCHES, PATCHES, prompt(5, 6))
    assert answer.text == answer.raw == "7 8" and answer.truncated and answer.num_tokens == 2
    told_to(listener).answer([question])
    assert listener.before_text == (PATCHES, PATCHES, prompt(5, 6))


@pytest.mark.parametrize("length", [0, 1, 14, 15, 500])
def test_a_plan_of_any_length_finds_room(length):
    listener = Listener(written=[7] * length, finished=False)
    image = draw(told_to(listener), [ImageRequest("5", 0)], THREE, plan=TextSampler(9))[0]
    assert listener.branches[0] == (PLANNING, prompt(5), prompt(*[7] * length))
    assert image.plan_truncated


def test_plans_and_prompts_of_all_lengths_need_few_capacities():
    capacities = set()
    for length in range(1, 500, 7):
        listener = Listener(written=[7] * (500 - length))
        draw(told_to(listener), [ImageRequest("5 " * length, 0)], THREE, plan=TextSampler(9))
        capacities.add(listener.capacity)
    assert len(capacities) <= 3 and max(capacities) <= 640
    for slots in (45, 90, 100):
        assert Conversation(Listener(), 1, slots, False).everything.capacity == bucket(slots)


def test_a_chunk_beyond_the_capacity_is_an_error_instead_of_a_damaged_context():
    conversation = Conversation(Listener(), 1, 16, image_guidance=False)
    conversation.add_text([[5] * 14])
    with pytest.raises(ValueError, match="expected 16 free slots for the next chunk, found 0"):
        conversation.add_text([[5]])


def test_each_use_of_a_seed_has_its_own_key():
    listener = Listener()
    request = ImageRequest("5", 77, image=PHOTO)
    draw(told_to(listener), [request], THREE, plan=TextSampler(9))
    assert (Use.NOISE, Use.TEXT, Use.POSTERIOR) == (0, 1, 2)
    for name, use in (("noise", Use.NOISE), ("text", Use.TEXT), ("posterior", Use.POSTERIOR)):
        assert jax.random.key_data(listener.keys[name]).tolist() == jax.random.key_data(random_keys([77], use)).tolist()


def test_an_image_is_encoded_with_the_key_of_its_row():
    listener = Listener()
    draw(told_to(listener), [ImageRequest("5", 1), ImageRequest("5", 2, image=PHOTO)], THREE)
    expected = jax.random.key_data(random_keys([2], Use.POSTERIOR))
    assert jax.random.key_data(listener.keys["posterior"]).tolist() == expected.tolist()


def test_numbers_that_are_none_are_an_error_wherever_they_appear():
    with pytest.raises(Failure, match=r"logits of rows \[0\] are not finite"):
        draw(told_to(Listener(healthy=False)), [ImageRequest("5", 0)], THREE, plan=TextSampler(9))
    with pytest.raises(Failure, match="sampled latents are not finite"):
        draw(told_to(Listener(latent=np.nan)), [ImageRequest("5", 0)], THREE)
    with pytest.raises(Failure, match=r"logits of rows \[0\] are not finite"):
        told_to(Listener(healthy=False)).answer([Question("5")])
    answer = told_to(Listener(healthy=False)).answer([Question("5")], allow_non_finite=True)[0]
    assert not answer.healthy
