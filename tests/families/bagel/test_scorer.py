"""How likely BAGEL makes texts and pictures, on the trained base."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.data.example import Example, Picture, stack_rows
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.registry import family
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.columns import NO_COLUMNS
from srum_jax.pipeline import load
from srum_jax.rewards.dual_likelihood import strata
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load as load_weights
from srum_jax.weights.tokenizer import load_tokenizer
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.questions import PICTURE_SIZE, SEEN_QUESTION
from srum_jax.worlds.shapes.records import sample_example

TIMES = strata(0.5, 1.0, 4)


def picture(number):
    """A drawn picture and the sentence that it shows."""
    from experiments._tiny_bagel.samples import picture_of
    from srum_jax.worlds.shapes.prompts import prompt_text

    example = sample_example(11, number, 0.0, tidy=True)
    return picture_of(example), prompt_text(example.prompt)


PICTURES, SENTENCES = zip(*(picture(number) for number in range(3)), strict=True)


@pytest.fixture(scope="module")
def scorer():
    return load(trained_base(), dtype="float32", attention="dense", mesh=MeshConfig(),
                devices=jax.devices()[:1]).scorer


def questions(pictures=PICTURES):
    return [Question(SEEN_QUESTION, (pixels,)) for pixels in pictures]


@pytest.mark.slow
@pytest.mark.parametrize("count_end", [False, True])
def test_a_text_is_as_likely_after_a_context_as_in_a_packed_row(scorer, count_end):
    answers = ["solid red circle", "nothing", "striped ring, solid red circle"]
    found = scorer.texts(questions(), answers, count_end=count_end)

    bagel, checkpoint = family("bagel"), open_checkpoint(trained_base(), family("bagel").architecture)
    rows = BagelRows(samples_per_row=1, text_capacity=64, vit_capacity=128, latent_capacity=64, ce_capacity=16,
                     images_per_row=1, image_height=48, image_width=48, max_size=48, min_size=48, stride=8)
    packer = bagel.packer(rows, checkpoint.config, load_tokenizer(trained_base()), NO_COLUMNS, None)
    forward = bagel.forward(checkpoint.config, ComputeConfig(dtype="float32", attention="dense", remat="none"))
    packed = []
    for pixels, answer in zip(PICTURES, answers, strict=True):
        row = packer.empty_row()
        row.add(Example(SEEN_QUESTION, Picture(PICTURE_SIZE, PICTURE_SIZE, pixels=pixels), lambda grid: {},
                        kind="reading", answer=answer), np.random.default_rng(0))
        packed.append(row.finish())
    batch = stack_rows(packed)
    graphdef, state = load_weights(checkpoint)
    scores = jax.jit(lambda state, batch: forward.scores(
        nnx.merge(graphdef, state), batch, forward.draws(jax.random.key(0), batch)))(state, batch)
    counted = np.asarray(forward.masks(batch).text) > 0
    if not count_end:  # the end marker is the last
        counted &= np.cumsum(counted, axis=1) < counted.sum(axis=1, keepdims=True)
    expected = np.where(counted, scores.text_log_prob, 0).sum(axis=1) / counted.sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (found < 0).all()
    total = scorer.texts(questions(), answers, count_end=count_end, total=True)
    np.testing.assert_allclose(total, expected * counted.sum(axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_scores_do_not_depend_on_what_else_is_in_the_batch(scorer):
    answers = ["solid red circle", "striped ring", "solid red circle"]
    np.testing.assert_allclose(scorer.texts(questions()[:1], answers[:1]), scorer.texts(questions(), answers)[:1],
                               rtol=1e-5)
    requests = [ImageRequest(sentence, seed=3) for sentence in SENTENCES]
    together = scorer.pictures(requests, PICTURES, np.tile(TIMES, (3, 1)))
    np.testing.assert_allclose(scorer.pictures(requests[1:2], PICTURES[1:2], TIMES[None]), together[1:2], rtol=1e-5)


def test_a_picture_is_scored_by_the_velocity_towards_it_and_best_under_its_own_sentence(scorer):
    requests = [ImageRequest(sentence, seed=5) for sentence in SENTENCES]
    found = scorer.pictures(requests, PICTURES[:1] * 3, np.tile(TIMES, (3, 1)))
    assert found.shape == (3, 4) and not scorer.exact and (found < 0).all()
    assert np.argmax(found.mean(axis=1)) == 0
    assert np.array_equal(found, scorer.pictures(requests, PICTURES[:1] * 3, np.tile(TIMES, (3, 1))))
    other = scorer.pictures([ImageRequest(SENTENCES[0], seed=6)], PICTURES[:1], TIMES[None])
    assert not np.allclose(other, found[:1], rtol=1e-3)  # another noise


def test_what_cannot_be_read_is_named(scorer):
    with pytest.raises(RequestError, match="request 1: prompt: expected a text"):
        scorer.texts(questions()[:2], ["nothing", "  "])
    with pytest.raises(RequestError, match="request 0: image"):
        scorer.pictures([ImageRequest("a red circle", seed=0)], [jnp.zeros((4, 4))], TIMES[None])
