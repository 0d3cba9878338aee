"""Drawing, answering and scoring by the tiny checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.families.janus_pro.code_sampling import Prompts, gumbel_noise, sample_codes
from srum_jax.families.janus_pro.likelihood import code_log_probs
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.inference.settings import TextSampler
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.prompts import left_padded, without_text
from srum_jax.pipeline import load
from tests.families.janus_pro import tiny_checkpoint
from tests.families.janus_pro.test_prompts import TOKENIZER, TOKENS, generation_prompt

COMPUTE = ComputeConfig(remat="none")
PROMPTS = [generation_prompt(text, TOKENIZER.encode, TOKENS) for text in (
    "a red circle left of a blue square", "two green triangles")]
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)


def opened(sampler=None, mesh=None, devices=1):
    return load(tiny_checkpoint.shared(), dtype="float32", attention="dense", sampler=sampler,
                mesh=mesh or MeshConfig(), devices=jax.devices()[:devices])


@pytest.fixture(scope="module")
def pipeline():
    return opened()


@pytest.fixture(scope="module")
def model(pipeline):
    return pipeline.generator.programs.model


def prompts(*which):
    return Prompts(*map(jnp.asarray, left_padded([PROMPTS[number] for number in which], 24, TOKENS.pad)))


def drawn(model, batch, sampler, keys):
    size = model.config.vq.codebook_size
    return jax.jit(lambda batch: sample_codes(model, batch, gumbel_noise(keys, size), sampler, COMPUTE,
                                              with_scores=True))(batch)


@pytest.mark.slow
def test_greedy_codes_are_the_likeliest_of_the_guided_full_forward_pass(model):
    """The last code again, without cache and loop: from both predictions behind all codes before it."""
    guidance, size = 3.0, model.config.vq.codebook_size
    found = drawn(model, prompts(0, 1), CodeSampler(guidance, None), jax.random.split(jax.random.key(0), 2))
    for row, prompt in enumerate(PROMPTS):
        both = jnp.asarray([prompt, without_text(prompt, TOKENS)])
        ids = jnp.repeat(both, size, axis=0)
        every = jnp.tile(jnp.arange(size), 2)
        codes = jnp.tile(found.codes[row][None], (2 * size, 1)).at[:, -1].set(every)
        log_probs = code_log_probs(model, ids, jnp.ones(ids.shape, bool), codes, COMPUTE)[:, -1].reshape(2, size)
        guided = log_probs[1] + guidance * (log_probs[0] - log_probs[1])
        assert int(jnp.argmax(guided)) == int(found.codes[row, -1])


def test_guidance_of_one_leaves_the_second_prediction_out_and_draws_the_same(model):
    keys = jax.random.split(jax.random.key(1), 2)
    alone = drawn(model, prompts(0, 1), CodeSampler(1.0, 1.0), keys)
    almost = drawn(model, prompts(0, 1), CodeSampler(1.0 + 1e-7, 1.0), keys)
    assert alone.hidden.shape[1] == 2 and almost.hidden.shape[1] == 4
    np.testing.assert_array_equal(alone.codes, almost.codes)
    np.testing.assert_allclose(alone.logits, almost.logits[:, ::2], atol=1e-4)


def test_draws_follow_the_softmax_of_the_scores(model):
    """First codes under 2,000 keys against the probabilities that they are drawn from."""
    keys = jax.random.split(jax.random.key(2), 2000)
    logits = drawn(model, prompts(0), CodeSampler(1.0, 1.0), keys[:1]).logits[0, 0]
    noise = gumbel_noise(keys, logits.shape[-1])(jnp.asarray(0))
    counts = np.bincount(np.asarray(jnp.argmax(logits[None] / 0.5 + noise, axis=-1)), minlength=len(logits))
    np.testing.assert_allclose(counts / len(keys), jax.nn.softmax(logits / 0.5), atol=0.04)


@pytest.mark.slow
def test_a_mesh_draws_and_answers_the_same():
    requests = [ImageRequest("a red circle", seed=seed) for seed in range(3)]
    question = Question("what is in the picture", (PICTURE,))
    results = []
    for mesh, devices in ((MeshConfig(), 1), (MeshConfig(data=2, fsdp=2), 4)):
        pipeline = opened(mesh=mesh, devices=devices)
        pictures = np.stack([image.pixels for image in pipeline.generate(requests)])
        [answer] = pipeline.answer([question], sampler=TextSampler(max_tokens=6))
        results.append((pictures, answer.raw))
    assert np.mean(results[0][0] != results[1][0]) < 0.01 and results[0][1] == results[1][1]


@pytest.mark.slow
def test_answers_do_not_depend_on_one_another_whatever_their_pictures(pipeline):
    questions = [Question("what is in the picture", (PICTURE,)), Question("what is it?"),
                 Question("is it a circle?", (PICTURE[::-1], PICTURE))]
    sampler = TextSampler(max_tokens=6)
    together = pipeline.answer(questions, sampler=sampler)
    assert [pipeline.answer([question], sampler=sampler)[0].raw for question in questions] == [
        answer.raw for answer in together]
    assert len({answer.raw for answer in together}) > 1


@pytest.mark.slow
def test_scores_are_the_likelihoods_of_the_answer_and_of_the_picture(pipeline, model):
    scorer = pipeline.scorer
    questions = [Question("what is in the picture", (PICTURE,)), Question("is it a circle?", (PICTURE[::-1],))]
    together = scorer.texts(questions, ["a red circle", "no"])
    alone = [scorer.texts([question], [answer])[0]
             for question, answer in zip(questions, ["a red circle", "no"], strict=True)]
    np.testing.assert_allclose(together, alone, atol=2e-5)
    assert np.all(together < 0)
    assert scorer.texts(questions[:1], ["a red circle"], count_end=True)[0] != together[0]
    total = scorer.texts(questions, ["a red circle", "no"], total=True)
    np.testing.assert_allclose(total, together * [3, 1], rtol=1e-5)  # words are tokens
    requests = [ImageRequest("a red circle left of a blue square", seed=0), ImageRequest("two green triangles", seed=0)]
    pictures = [image.pixels for image in pipeline.generate(requests)]
    found = scorer.pictures(requests, pictures, np.zeros((2, 1), np.float32))
    assert found.shape == (2, 1) and scorer.exact
    codes = model.vq.encode(jnp.asarray(np.stack(pictures), jnp.float32) / 255 * 2 - 1)
    batch = prompts(0, 1)
    expected = code_log_probs(model, batch.ids, batch.real, codes, COMPUTE).mean(axis=1)
    np.testing.assert_allclose(found[:, 0], expected, atol=2e-5)


@pytest.mark.parametrize("changes, field", [
    ({"height": 48, "width": 24}, "width"), ({"image": PICTURE}, "image"), ({"prompt": "circle " * 600}, "prompt")])
def test_what_cannot_be_drawn_is_refused_by_the_field(pipeline, changes, field):
    with pytest.raises(RequestError, match=field):
        pipeline.check(ImageRequest(**{"prompt": "a circle", "seed": 0, **changes}))


def test_a_plan_and_steps_are_refused_by_name(pipeline):
    request = [ImageRequest("a circle", seed=0)]
    with pytest.raises(RequestError, match="plan"):
        pipeline.generate(request, plan=TextSampler())
    with pytest.raises(RequestError, match="on_step"):
        pipeline.generate(request, on_step=lambda *_: None)


def test_more_pictures_than_there_are_positions_are_refused(pipeline):
    with pytest.raises(RequestError, match=r"image: expected at most 512"):
        pipeline.check(Question("what is it?", (PICTURE,) * 60))


@pytest.mark.parametrize("settings, field", [({"guidance": -1.0}, "guidance"), ({"temperature": 0.0}, "temperature")])
def test_unusable_sampling_is_refused_by_the_field(settings, field):
    with pytest.raises(ValueError, match=field):
        CodeSampler(**settings)
