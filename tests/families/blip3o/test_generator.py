import dataclasses

import numpy as np
import pytest

from srum_jax.errors import BadInput
from srum_jax.families.blip3o import generator as generator_module
from srum_jax.families.blip3o.generator import Blip3oGenerator
from srum_jax.families.blip3o.request_reader import RequestReader
from srum_jax.families.blip3o.sampler import FeatureSampler, PictureSampler, PixelSampler
from srum_jax.inference.requests import ImageRequest, RequestError
from srum_jax.inference.settings import TextSampler
from tests.families.blip3o.small_pipeline import (
    QUICK,
    changed_files,
    generator,
    opened,
    picture,
    shared,
    small_files,
)

REQUESTS = [ImageRequest("a red circle", seed=1),
            ImageRequest("two green triangles left of a blue square", seed=2, height=32, width=48),
            ImageRequest("a red circle", seed=3)]


def pixels(images):
    return [image.pixels.astype(int) for image in images]


def furthest(first, second):
    return max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def drawn():
    return pixels(generator().generate(REQUESTS))


@pytest.mark.slow
def test_a_picture_has_the_size_that_was_asked_for_and_follows_from_its_own_seed(drawn):
    assert [image.shape for image in drawn] == [(64, 64, 3), (32, 48, 3), (64, 64, 3)]
    assert np.abs(drawn[0] - drawn[2]).max() > 8
    for request, image in zip(REQUESTS, drawn, strict=True):
        assert furthest(pixels(generator().generate([request])), [image]) <= 1


@pytest.mark.slow
def test_how_many_pictures_are_decoded_at_once_changes_nothing(drawn, monkeypatch):
    monkeypatch.setattr(generator_module, "PICTURES_AT_ONCE", 1)
    assert furthest(pixels(generator().generate(REQUESTS)), drawn) <= 1


@pytest.mark.slow
def test_a_mesh_draws_the_same(drawn):
    spread = Blip3oGenerator(opened(4, data=2, fsdp=2), QUICK)
    assert furthest(pixels(spread.generate(REQUESTS)), drawn) <= 1


@pytest.mark.slow
def test_the_last_step_has_the_picture_in_view_and_times_fall_from_noise(drawn):
    seen = []
    made = pixels(generator().generate(REQUESTS, on_step=lambda *step: seen.append((*step[:3], step[3]()))))
    assert furthest(made, drawn) <= 1
    assert [step[:3] for step in seen] == [(0, 2, 1.0), (1, 2, 0.5)]
    assert furthest([seen[-1][3][number] for number in range(3)], drawn) <= 1
    assert furthest([seen[0][3][number] for number in range(3)], drawn) > 8


@pytest.mark.slow
def test_features_of_the_blank_text_are_drawn_once_for_all_pictures_by_a_seed_of_their_own(drawn, monkeypatch):
    fresh = generator().with_sampler(QUICK)
    asked = []
    features = Blip3oGenerator._features
    monkeypatch.setattr(Blip3oGenerator, "_features", lambda self, prompts, seeds: (
        asked.append((len(prompts), seeds)), features(self, prompts, seeds))[1])
    assert furthest(pixels(fresh.generate(REQUESTS)), drawn) == 0
    assert furthest(pixels(fresh.generate(REQUESTS)), drawn) == 0
    assert asked == [(3, [1, 2, 3]), (1, [0]), (3, [1, 2, 3])]
    other = generator().with_sampler(dataclasses.replace(QUICK, negative_seed=7))
    assert furthest(pixels(other.generate(REQUESTS[:1])), drawn[:1]) > 1


@pytest.mark.slow
def test_the_turn_before_the_picture_is_open_unless_it_is_to_be_as_in_training(drawn):
    closed = generator().with_sampler(dataclasses.replace(QUICK, assistant_turn="closed"))
    assert furthest(pixels(closed.generate(REQUESTS[:1])), drawn[:1]) > 1
    reader = RequestReader(small_files())
    assert reader.drawing("a circle", "closed")[:len(reader.drawing("a circle", "open"))] == reader.drawing(
        "a circle", "open")


@pytest.mark.parametrize("wrong, field", [
    ({"height": 40, "width": 48}, "height"),  # no multiple of the coarsest level's cell
    ({"height": 48, "width": 80}, "width"),  # larger than the decoder was made for
    ({"height": 48}, "height, width"),
    ({"image": picture()}, "image"),
    ({"prompt": "red " * 200}, "prompt"),
    ({"prompt": "two\ud800"}, "prompt"),
    ({"prompt": " "}, "prompt"),
    ({"seed": 2**63}, "seed"),
])
def test_what_it_cannot_draw_is_refused_by_the_field(wrong, field):
    with pytest.raises(RequestError, match=f"request 1: {field}: "):
        generator().generate([REQUESTS[0], dataclasses.replace(REQUESTS[0], **wrong)])


def test_a_plan_is_refused():
    with pytest.raises(RequestError, match="plan"):
        generator().generate(REQUESTS, plan=TextSampler())


def test_a_control_token_that_cannot_be_read_as_text_is_refused_unless_it_may_act():
    plain, allowed = RequestReader(small_files()), RequestReader(small_files(control_tokens=True))
    request = dataclasses.replace(REQUESTS[0], prompt="a <|im_end|> circle")
    with pytest.raises(RequestError, match=r"prompt: .*<\|im_end\|>"):
        plain.image(request)
    read = allowed.image(request)
    assert allowed.drawing(read.caption, "open").count(2) == 3  # two of the template


def test_a_checkpoint_without_the_folder_of_the_pixel_decoder_answers_but_does_not_draw(tmp_path):
    reader = RequestReader(small_files(changed_files(tmp_path / "model", without=("diffusion-decoder",))))
    with pytest.raises(BadInput, match="diffusion-decoder") as caught:
        reader.image(REQUESTS[0])
    assert not isinstance(caught.value, RequestError)  # no prompt is at fault
    with pytest.raises(BadInput, match="diffusion-decoder"):
        _ = reader.default_size


def test_a_tokenizer_that_calls_a_control_token_otherwise_is_refused_by_name(tmp_path):
    with pytest.raises(BadInput, match=r"<\|im_start\|> as token 2"):
        RequestReader(small_files(changed_files(tmp_path / "model", eos_token_id=3)))


@pytest.mark.parametrize("make, field", [
    (lambda: FeatureSampler(num_steps=0), "features.num_steps"), (lambda: FeatureSampler(shift=0), "features.shift"),
    (lambda: PixelSampler(num_steps=1001), "pixels.num_steps"), (lambda: PixelSampler(guidance=-1), "pixels.guidance"),
    (lambda: PictureSampler(negative_seed=-1), "negative_seed"),
    (lambda: PictureSampler(assistant_turn="half"), "assistant_turn"),
])
def test_settings_out_of_range_are_refused_by_name(make, field):
    with pytest.raises(ValueError, match=field):
        make()


def test_more_steps_than_the_schedule_has_room_for_are_refused_before_anything_is_drawn():
    with pytest.raises(BadInput, match=r"sampler\.pixels\.num_steps"):
        Blip3oGenerator(shared(), dataclasses.replace(QUICK, pixels=PixelSampler(num_steps=1000)))
