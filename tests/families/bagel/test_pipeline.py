import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from srum_jax.errors import Failure
from srum_jax.families.bagel import conversation
from srum_jax.families.bagel.generator import BagelGenerator
from srum_jax.families.bagel.programs import DECODE_IMAGES, finite_pixels
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.inference.programs import Programs
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.inference.settings import TextSampler
from tests.families.bagel.small_pipeline import draw, pipeline_of, random_model, small_pipeline

QUICK = FlowSampler(num_timesteps=4, edit_guidance=None)
BOTH = FlowSampler(num_timesteps=4, guidance=Guidance(4.0, 1.5, (0.3, 0.95), "text_channel"), edit_guidance=None)
PHOTO = np.random.default_rng(1).integers(0, 256, (40, 28, 3)).astype(np.uint8)

MIXED = [
    ImageRequest("5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21", seed=3, height=16, width=16),
    ImageRequest("9", seed=2**40 + 1, height=8, width=16),
    ImageRequest("30 31 32", seed=5, image=PHOTO),
    ImageRequest("41 42", seed=0, height=16, width=16),
]


def levels(one, other) -> int:
    """Largest difference of two lists of images, in levels of 255."""
    assert [a.pixels.shape for a in one] == [b.pixels.shape for b in other]
    return max(int(np.abs(a.pixels.astype(int) - b.pixels).max()) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def pipeline():
    return small_pipeline()


@pytest.fixture(scope="module")
def together(pipeline):
    return draw(pipeline, MIXED, BOTH, plan=TextSampler(6))


@pytest.mark.slow
def test_images_have_the_sizes_asked_for_and_differ_by_prompt(together):
    assert [image.pixels.shape for image in together] == [(16, 16, 3), (8, 16, 3), (32, 24, 3), (16, 16, 3)]
    assert all(image.pixels.dtype == np.uint8 and image.pixels.std() > 5 for image in together)
    assert np.abs(together[0].pixels.astype(int) - together[3].pixels).mean() > 5


@pytest.mark.slow
def test_a_row_gives_the_same_image_and_plan_alone_and_in_a_batch_of_other_lengths_and_sizes(pipeline, together):
    for row, request in enumerate(MIXED):
        alone = draw(pipeline, [request], BOTH, plan=TextSampler(6))
        assert levels(alone, together[row : row + 1]) <= 1
        assert alone[0].plan == together[row].plan and alone[0].plan_truncated == together[row].plan_truncated


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(2, 2, 1, 2), *(
    pytest.param(shape, marks=pytest.mark.nightly) for shape in ((8, 1, 1, 1), (1, 8, 1, 1), (1, 1, 1, 2)))])
def test_any_mesh_gives_the_images_of_one_device(mesh, together):
    """By day on the mesh that has all the axes of the others."""
    images = draw(small_pipeline(mesh), MIXED, BOTH, plan=TextSampler(6))
    assert levels(images, together) <= 1
    assert [image.plan for image in images] == [image.plan for image in together]


@pytest.mark.slow
def test_chunked_attention_gives_the_images_of_dense_attention(together):
    assert levels(draw(small_pipeline(attention="chunked"), MIXED, BOTH, plan=TextSampler(6)), together) <= 1


@pytest.mark.slow
def test_a_short_row_is_the_same_alone_and_beside_a_longer_and_larger_one(pipeline):
    both = draw(pipeline, [MIXED[0], MIXED[1]], QUICK)
    assert levels(both[1:], draw(pipeline, [MIXED[1]], QUICK)) <= 1


@pytest.mark.slow
def test_the_seed_changes_the_image_and_nothing_else_does(pipeline):
    request = MIXED[3]
    one = draw(pipeline, [request, request], QUICK)
    assert levels(one[:1], one[1:]) == 0
    other = draw(pipeline, [ImageRequest("41 42", seed=1, height=16, width=16)], QUICK)
    assert levels(one[:1], other) > 20


@pytest.mark.slow
def test_a_plan_precedes_the_image_and_changes_it(pipeline):
    plain = draw(pipeline, MIXED[3:], QUICK)
    planned = draw(pipeline, MIXED[3:], QUICK, plan=TextSampler(6))
    assert plain[0].plan is None and len(planned[0].plan.split()) in range(1, 6)
    assert levels(plain, planned) > 2


@pytest.mark.slow
def test_the_source_image_of_an_edit_matters(pipeline):
    negative = ImageRequest("30 31 32", seed=5, image=255 - PHOTO)
    assert levels(draw(pipeline, MIXED[2:3], QUICK), draw(pipeline, [negative], QUICK)) > 2


@pytest.mark.slow
def test_an_edit_may_ask_for_another_size_than_its_source(pipeline):
    image = draw(pipeline, [ImageRequest("1", seed=0, image=PHOTO, height=8, width=32)], QUICK)[0]
    assert image.pixels.shape == (8, 32, 3)


@pytest.mark.slow
def test_bfloat16_stays_near_float32():
    full = draw(small_pipeline(), MIXED, QUICK)
    half = draw(small_pipeline(dtype="bfloat16"), MIXED, QUICK)
    for one, other in zip(full, half, strict=True):
        assert 0 < np.abs(one.pixels.astype(int) - other.pixels).mean() < 4


@pytest.mark.slow
def test_answers_do_not_depend_on_the_batch_and_see_their_images(pipeline):
    questions = [
        Question("5 6 7", (PHOTO,)), Question("9"), Question("5 6 7", (PHOTO, 255 - PHOTO)), Question("5 6 7"),
    ]
    together = pipeline.answer(questions, sampler=TextSampler(8), think=True)
    for row, question in enumerate(questions):
        assert pipeline.answer([question], sampler=TextSampler(8), think=True)[0] == together[row]
    assert len({answer.raw for answer in together}) == 4


def test_sampled_answers_follow_their_seed(pipeline):
    hot = TextSampler(8, temperature=1.0)
    question = [Question("5 6 7", seed=seed) for seed in (1, 2, 1)]
    answers = [answer.raw for answer in pipeline.answer(question, sampler=hot)]
    assert answers[0] == answers[2] != answers[1]
    assert pipeline.answer(question[1:2], sampler=hot)[0].raw == answers[1]


def test_pixels_that_are_not_numbers_are_an_error_instead_of_black():
    graphdef, state = random_model()
    state = jax.tree_util.tree_map_with_path(
        lambda path, x: x * jnp.nan if "'decoder'" in jax.tree_util.keystr(path) else x, state)
    whole = small_pipeline().generator.programs
    damaged = Programs(graphdef, state, whole.mesh, whole.compute)
    latent = np.ones((1, 1, 16), np.float32)
    assert finite_pixels(whole.call(DECODE_IMAGES, latent, 1, 1))[0].shape == (1, 4, 4, 3)
    with pytest.raises(Failure, match="decoded pixels are not finite"):
        finite_pixels(damaged.call(DECODE_IMAGES, latent, 1, 1))


def test_nothing_asked_is_nothing_answered(pipeline):
    assert pipeline.generate([]) == [] and pipeline.answer([]) == []


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ImageRequest("  ", 0), "prompt: expected a text, found '  '"),
        (ImageRequest(None, 0), "prompt: expected a text, found None"),
        (ImageRequest("1 " * 50, 0), "prompt: expected 1 to 40 tokens, found 50"),
        (ImageRequest("1", -1), "seed: expected an integer from 0 to 9223372036854775807, found -1"),
        (ImageRequest("1", 2**63), "seed: expected an integer"),
        (ImageRequest("1", 0, 8), "height, width: expected both or neither, found 8 and None"),
        (ImageRequest("1", 0, 10, 8), "height: expected a positive multiple of 4 pixels, found 10"),
        (ImageRequest("1", 0, 8, 0), "width: expected a positive multiple of 4 pixels, found 0"),
        (ImageRequest("1", 0, 64, 8), "height x width: an image of 16 x 2 tokens is larger than the position table"),
        (ImageRequest("1", 0, image=np.zeros((8, 8))), r"image: expected uint8 pixels \[height, width, 3\], found"),
        (ImageRequest("1", 0, image="photo.png"), "image: expected a PIL image or an array of pixels, found str"),
        (ImageRequest("1", 0, image=Image.new("RGB", (100, 2))), "image: expected sides of a ratio of at most 20"),
        (ImageRequest("1", 0, image=Image.new("RGB", (0, 0))), "image: expected at least one pixel, found 0 x 0"),
        (ImageRequest("1", 0, image=Image.new("I;16", (9, 9))), "image: undecodable image: expected 8 bits a channel"),
        (ImageRequest("1", 0, 8.0, 8), "height: expected a positive multiple of 4 pixels, found 8.0"),
        (ImageRequest("1", 0, 8, "8"), "width: expected a positive multiple of 4 pixels, found '8'"),
        (ImageRequest("1 \ud800", 0), "prompt: expected text that UTF-8 can write"),
        (Question("1", PHOTO), "image: expected a tuple of images, found ndarray"),
        (Question(""), "prompt: expected a text"),
        (Question("1", (np.zeros((8, 8, 4), np.uint8),)), "image: expected uint8 pixels"),
    ],
)
def test_a_request_that_cannot_be_served_is_an_error_that_says_why(request_, message):
    pipeline = small_pipeline(max_prompt_tokens=40)
    with pytest.raises(RequestError, match=message):
        pipeline.check(request_)
    serve = pipeline.answer if isinstance(request_, Question) else pipeline.generate
    with pytest.raises(RequestError, match=f"request 1: {message}"):
        serve([type(request_)("1", seed=0), request_])


def test_an_image_file_that_ends_early_is_an_error_of_its_request(tmp_path, pipeline):
    Image.fromarray(PHOTO).save(tmp_path / "whole.png")
    (tmp_path / "part.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1000])
    with pytest.raises(RequestError, match="image: undecodable image: image file is truncated"):
        pipeline.check(Question("1", (Image.open(tmp_path / "part.png"),)))


def test_without_a_sampler_every_request_gets_the_published_settings_of_its_kind(monkeypatch):
    monkeypatch.setattr(BagelGenerator, "_batch", lambda self, read, numbers, sampler, *_: [
        (number, item.seed, sampler) for number, item in zip(numbers, read, strict=True)])
    pipeline = small_pipeline()
    plain = FlowSampler(edit_guidance=None)
    edit = dataclasses.replace(plain, guidance=FlowSampler().edit_guidance)
    requests = [ImageRequest("1", 0, image=PHOTO), ImageRequest("1", 1), ImageRequest("1", 2, image=PHOTO)]
    assert pipeline.generate(requests) == [(0, 0, edit), (1, 1, plain), (2, 2, edit)]
    assert pipeline.generate(requests[1:2]) == [(0, 1, plain)] and pipeline.generate(requests[:1]) == [(0, 0, edit)]
    assert draw(pipeline, requests, QUICK) == [(number, number, QUICK) for number in range(3)]


def test_a_model_without_vision_tower_draws_but_refuses_images():
    blind = small_pipeline(with_vit=False)
    assert draw(blind, MIXED[:1], QUICK)[0].pixels.shape == (16, 16, 3)
    assert blind.answer([Question("1")], sampler=TextSampler(3))[0].num_tokens <= 2
    for request in (Question("1", (PHOTO,)), MIXED[2]):
        with pytest.raises(RequestError, match="image: expected a model with its vision tower"):
            blind.check(request)


def test_an_image_with_alpha_or_in_grey_is_taken_as_rgb(pipeline):
    for mode in ("RGBA", "L", "P"):
        pipeline.check(Question("1", (Image.fromarray(PHOTO).convert(mode),)))


def test_other_weights_draw_their_own_images_by_the_programs_that_are_there(pipeline):
    graphdef, state = random_model()
    other = jax.tree_util.tree_map_with_path(
        lambda path, x: -x if "llm2vae" in jax.tree_util.keystr(path) else x, state)
    generator = pipeline.generator.with_sampler(QUICK)
    before = generator.generate(MIXED[3:])
    compiled = {program: function._cache_size() for program, function in generator.programs._compiled.items()}
    changed = generator.with_parameters(nnx.State({"llm2vae": other["llm2vae"]}))
    drawn = changed.generate(MIXED[3:])
    expected = Programs(graphdef, other, generator.programs.mesh, generator.programs.compute)
    assert levels(drawn, draw(pipeline_of(expected), MIXED[3:], QUICK)) == 0 and levels(drawn, before) > 20
    assert {program: function._cache_size() for program, function in changed.programs._compiled.items()} == compiled
    assert levels(generator.generate(MIXED[3:]), before) == 0


@pytest.mark.parametrize(("parameters", "named"), [
    ({"llm3vae": {"kernel": np.zeros(3)}}, "llm3vae.kernel"), ({"llm2vae": {"kernel": np.zeros(3)}}, "llm2vae.kernel"),
])
def test_weights_that_do_not_fit_are_named(pipeline, parameters, named):
    state = jax.tree.map(lambda x: nnx.Param(x), nnx.State(parameters))
    with pytest.raises(ValueError, match=named):
        pipeline.generator.with_parameters(state)


@pytest.mark.slow
def test_a_plan_that_is_shown_while_it_is_written_is_the_plan_and_leads_to_the_same_image(
    pipeline, together, monkeypatch
):
    monkeypatch.setattr(conversation, "_TOKENS_AT_ONCE", 2)
    seen = []
    images = pipeline.generator.with_sampler(BOTH).generate(MIXED, plan=TextSampler(6), on_plan=seen.append)
    assert levels(images, together) <= 1
    assert 2 <= len(seen) <= 3 and all(set(texts) == {0, 1, 2, 3} for texts in seen)
    for number, image in enumerate(images):
        assert image.plan == together[number].plan == seen[-1][number]
        assert all(image.plan.startswith(texts[number]) for texts in seen)


@pytest.mark.slow
def test_each_step_shows_the_image_in_view_and_the_last_one_is_the_result(pipeline):
    seen = []
    requests = [MIXED[0], MIXED[2]]
    generator = pipeline.generator.with_sampler(FlowSampler(num_timesteps=4))
    images = generator.generate(
        requests, on_step=lambda step, total, time, view: seen.append((step, time, view(), total)))
    assert [total for *_, total in seen] == [3] * 6
    assert [(step, *view) for step, _, view, _ in seen] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert seen[0][1] == seen[3][1] == 1.0 and 1 > seen[1][1] > seen[2][1] > 0
    for number, (_, _, view, _) in ((0, seen[2]), (1, seen[5])):  # the last step ends at t = 0
        assert np.abs(view[number].astype(int) - images[number].pixels).max() <= 1
    assert np.abs(seen[0][2][0].astype(int) - images[0].pixels).mean() > 2
    assert levels(images, generator.generate(requests)) <= 1
