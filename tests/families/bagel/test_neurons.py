"""Values of neurons that stream through the cached decoder are those of the training forward, token by token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.data.example import Example, Picture, stack_rows
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.generator import BagelGenerator
from srum_jax.families.bagel.image_codec import initial_noise
from srum_jax.families.bagel.programs import SAMPLE_LATENTS
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.families.registry import family
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.inference.settings import TextSampler
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.columns import NO_COLUMNS
from srum_jax.pipeline import load
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load as load_weights
from srum_jax.weights.tokenizer import load_tokenizer
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.questions import PICTURE_SIZE, SEEN_QUESTION
from tests.families.bagel.test_scorer import PICTURES, SENTENCES

ANSWER = "solid red circle"


@pytest.fixture(scope="module")
def neurons():
    return load(trained_base(), dtype="float32", attention="dense", mesh=MeshConfig(),
                devices=jax.devices()[:1]).neurons


def by_the_training_forward(example, expert, gated, latent=None, times=0.0):
    """Means over one packed sample's tokens of an expert, [L, C], from the taps of an unscanned model."""
    checkpoint = open_checkpoint(trained_base(), family("bagel").architecture)
    rows = BagelRows(samples_per_row=1, text_capacity=64, vit_capacity=128, latent_capacity=36, ce_capacity=16,
                     images_per_row=1, image_height=48, image_width=48, max_size=48, min_size=48, stride=8)
    row = family("bagel").packer(rows, checkpoint.config, load_tokenizer(trained_base()), NO_COLUMNS, None).empty_row()
    row.add(example, np.random.default_rng(0))
    batch = stack_rows([row.finish()])
    compute = ComputeConfig(dtype="float32", attention="dense", remat="none", scan_layers=False)
    graphdef, state = load_weights(checkpoint)
    model, found = nnx.merge(graphdef, state), {}
    if latent is None:
        latent = np.zeros((*batch.latent.sample.shape, checkpoint.config.latent_values), np.float32)

    def taps(state, batch, latent):
        found.clear()
        nnx.merge(graphdef, state)(batch, latent, jnp.full(latent.shape[:2], times, jnp.float32), compute,
                                   lambda name, value: found.setdefault(name, []).append(value))
        return [found[name] for name in ("packed_sequence", "layer", "attention_branch")]

    sequence, layers, branches = jax.jit(taps)(state, batch, latent)
    real = {"und": jnp.concatenate([batch.text.real, batch.vit.real], axis=1)[0], "gen": batch.latent.real[0]}[expert]
    expected = []
    definition, stacked = nnx.split(getattr(model.llm.layers, expert))
    for number, (before, branch) in enumerate(zip([sequence[0], *layers[:-1]], branches, strict=True)):
        layer = nnx.merge(definition, jax.tree.map(lambda leaf, number=number: leaf[number], stacked))
        normed = layer.mlp_norm(getattr(before, expert) + getattr(branch, expert))
        values = jax.nn.silu(layer.gate(normed))
        values = jnp.abs(values * layer.up(normed)) if gated else values
        expected.append(np.asarray(values)[0][real].mean(axis=0))
    return np.stack(expected)


@pytest.mark.slow
@pytest.mark.parametrize("gated", [False, True])
def test_a_question_with_picture_and_answer_gives_the_means_of_the_training_forward(neurons, gated):
    found = neurons.answering([Question(SEEN_QUESTION, PICTURES[:1])], [ANSWER], gated=gated)
    assert found.shape == (1, *neurons.shape) and found.dtype == np.float32
    example = Example(SEEN_QUESTION, Picture(PICTURE_SIZE, PICTURE_SIZE, pixels=PICTURES[0]), lambda grid: {},
                      kind="reading", answer=ANSWER)
    np.testing.assert_allclose(found[0], by_the_training_forward(example, "und", gated), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_values_do_not_depend_on_what_else_is_in_the_batch(neurons):
    questions = [Question(SEEN_QUESTION, PICTURES[:1]), Question("how many?"), Question(SEEN_QUESTION, PICTURES[1:2])]
    together = neurons.answering(questions, [ANSWER, "", "nothing"])
    np.testing.assert_allclose(neurons.answering(questions[1:2], [""]), together[1:2], rtol=1e-4, atol=1e-6)
    requests = [ImageRequest(sentence, seed=0) for sentence in SENTENCES]
    np.testing.assert_allclose(neurons.drawing(requests[:1]), neurons.drawing(requests)[:1], rtol=1e-4, atol=1e-6)
    assert neurons.drawing([]).shape == (0, *neurons.shape)


def test_what_cannot_be_read_is_named(neurons):
    with pytest.raises(RequestError, match="request 1: prompt: expected a text"):
        neurons.drawing([ImageRequest("a red circle", seed=0), ImageRequest(" ", seed=0)])


@pytest.fixture(scope="module")
def both(neurons):
    return neurons.of_all_experts(SAMPLER)


SAMPLER = FlowSampler(num_timesteps=3, guidance=Guidance(text_scale=1.0), edit_guidance=None)
REQUESTS = [ImageRequest(sentence, seed=number) for number, sentence in enumerate(SENTENCES[:2])]


@pytest.mark.slow
def test_a_neuron_of_an_expert_without_tokens_is_zero_and_the_other_expert_is_as_without_it(neurons, both):
    layers, channels = neurons.shape
    assert both.shape == (layers, 2 * channels)
    asked = [Question(SEEN_QUESTION, PICTURES[:1])], [ANSWER]
    found = both.answering(*asked)
    np.testing.assert_allclose(found[..., :channels], neurons.answering(*asked), rtol=1e-5, atol=1e-6)
    assert not found[..., channels:].any()
    drawn = both.drawing(REQUESTS)
    np.testing.assert_allclose(drawn[..., :channels], neurons.drawing(REQUESTS), rtol=1e-5, atol=1e-6)
    assert (np.abs(drawn[..., channels:]).max(axis=2) > 0).all()


def test_the_own_picture_of_a_prompt_and_its_noise_do_not_depend_on_the_order_of_the_batch(both):
    there, back = both.drawing(REQUESTS), both.drawing(REQUESTS[::-1])[::-1]
    np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-5)
    other = both.drawing([dataclasses.replace(REQUESTS[0], seed=7)])[0]
    channels = both.shape[1] // 2
    np.testing.assert_allclose(other[:, :channels], there[0, :, :channels], rtol=1e-4, atol=1e-6)
    assert np.abs(other - there[0])[:, channels:].max() > 1e-3


@pytest.mark.slow
def test_a_plan_is_read_behind_its_prompt_and_the_own_picture_follows_it(neurons, both):
    plan, channels = TextSampler(max_tokens=3), neurons.shape[1]
    planned = neurons.drawing(REQUESTS[:1], plan=plan)
    assert planned.shape == (1, *neurons.shape) and np.abs(planned - neurons.drawing(REQUESTS[:1])).max() > 1e-3
    drawn = both.drawing(REQUESTS[:1], plan=plan)
    np.testing.assert_allclose(drawn[..., :channels], planned, rtol=1e-5, atol=1e-6)
    assert np.abs(drawn - both.drawing(REQUESTS[:1]))[..., channels:].max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("gated", [False, True])
def test_a_noised_picture_of_its_own_gives_the_mean_of_the_training_forward_at_four_times(both, gated):
    generator, request = BagelGenerator(both.opened, SAMPLER), REQUESTS[1]
    read = [generator.reader.image(request)]
    conversation, _ = generator.image_contexts(read, np.array([True]), SAMPLER, None)
    latent, _ = generator.sample(SAMPLE_LATENTS, conversation, read, SAMPLER)
    example = Example(request.prompt, Picture(PICTURE_SIZE, PICTURE_SIZE, pixels=PICTURES[0]), lambda grid: {})
    key, expected = random_keys([request.seed], Use.NOISE)[0], []
    for number, time in enumerate((0.25, 0.5, 0.75, 0.95)):
        noise = initial_noise(jax.random.fold_in(key, number)[None], 36, generator.programs.config)
        noisy = (1 - time) * latent[:, :36] + time * noise
        expected.append(by_the_training_forward(example, "gen", gated, noisy, time))
    found = both.drawing([request], gated=gated)[0, :, both.shape[1] // 2:]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-4, atol=1e-5)
