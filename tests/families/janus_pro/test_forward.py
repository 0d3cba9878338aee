"""Token scores of batches against the recorded likelihoods of the reference."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.families.janus_pro.batch import JanusBatch, Readings
from srum_jax.families.janus_pro.forward import JanusForward, encode
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.loss import objective_loss, objective_totals
from srum_jax.objectives.token_scores import Columns
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load
from tests.golden import HERE, golden_tensors

CASE = HERE / "janus" / "tiny_a"
COMPUTE = ComputeConfig(remat="none")


@pytest.fixture(scope="module")
def model():
    return nnx.merge(*load(open_checkpoint(CASE, JANUS_PRO)))


def records(name):
    return golden_tensors(f"janus/tiny_a/golden_{name}.safetensors")


def batch(model, drawn=(), readings=()):
    """One row; drawings are ids and codes, readings ids, answer and view."""
    config, width = model.config, 16
    slots = max(len(drawn), 1)
    ids = np.full((slots, width), config.special_tokens.pad, np.int32)
    sample, length = np.full(slots, -1, np.int32), np.zeros(slots, np.int32)
    codes = np.zeros((slots, config.vq.num_codes), np.int32)
    for slot, (prompt, own) in enumerate(drawn):
        ids[slot, width - len(prompt) :], codes[slot] = prompt, own
        sample[slot], length[slot] = slot, len(prompt)
    side, places = config.vision.image_size, 48
    reading = Readings(
        sample=np.arange(len(readings), dtype=np.int32), ids=np.zeros((len(readings), places), np.int32),
        length=np.zeros(len(readings), np.int32), views=np.zeros((len(readings), side, side, 3), np.uint8),
        answer_index=np.zeros((len(readings), 8), np.int32), answer_ids=np.zeros((len(readings), 8), np.int32),
        answer_weights=np.zeros((len(readings), 8), np.float32))
    for slot, (prompt, answer, view) in enumerate(readings):
        end = len(prompt) + len(answer)
        reading.ids[slot, :end], reading.length[slot], reading.views[slot] = [*prompt, *answer], end, view
        reading.answer_index[slot, : len(answer)] = np.arange(len(prompt) - 1, end - 1)
        reading.answer_ids[slot, : len(answer)], reading.answer_weights[slot, : len(answer)] = answer, 1
    row = JanusBatch(sample=sample, ids=ids, length=length, pixels=np.zeros((slots, 0, 0, 3), np.uint8), codes=codes,
                     image_columns={}, readings=reading, text_columns={}, num_samples=slots + len(readings))
    return jax.tree.map(lambda x: jnp.asarray(x)[None], row)


def scores_of(model, one):
    return jax.jit(lambda b: JanusForward(model.config, COMPUTE).scores(model, b, {}))(one)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max() + 1e-6)


def drawn_of_sft():
    expected = records("generation")
    return [*zip(expected["sft.input_ids"], expected["sft.image_tokens"], strict=True)]


def test_errors_of_codes_are_the_references_cross_entropy_with_texts_left_out(model):
    one = batch(model, drawn_of_sft())
    scores = scores_of(model, one)
    close(scores.image_error.reshape(4, -1), records("generation")["sft.ce_per_token"])
    assert scores.reference_error is None and scores.time is None


@pytest.mark.slow
def test_a_prompt_scores_alike_whatever_the_padding_before_it(model):
    expected = records("generation")
    drawn = [(expected[f"tf{i}.prompt_ids"], expected[f"tf{i}.image_tokens"]) for i in (0, 1)]
    assert len({len(prompt) for prompt, _ in drawn}) == 2
    scores = scores_of(model, batch(model, drawn))
    for row, values in enumerate(scores.image_error.reshape(2, -1)):
        close(-values, expected[f"tf{row}.logprobs"])


def test_log_probabilities_of_an_answer_are_the_references(model):
    expected, prepared = records("understanding"), records("preprocess")
    prompt = expected["input_ids"][0][expected["attention_mask"][0] > 0]
    answer, view = expected["tf0.answer_ids"], prepared["padded_0"].transpose(1, 2, 0)
    other = (prompt[:20], answer[:3], view[::-1])
    one = batch(model, readings=[other, (prompt, answer, view)])
    scores = scores_of(model, one)
    close(scores.text_log_prob.reshape(2, 8)[1, : len(answer)], expected["tf0.logprobs"])


def test_pictures_are_encoded_to_the_references_codes(model):
    expected = records("vq")
    found = jax.jit(lambda pictures: encode(model.vq, pictures))(expected["image_uint8"][None])
    np.testing.assert_array_equal(np.asarray(found).reshape(-1), expected["indices"])


def test_srum_weighs_each_code_by_its_reward_and_adds_the_plain_error(model):
    """SRUM, equation of the loss, with minus the log probability of a code in the place of the velocity's error."""
    one = batch(model, drawn_of_sft())
    forward = JanusForward(model.config, COMPUTE)
    masks, error = forward.masks(one), records("generation")["sft.ce_per_token"].reshape(-1)
    rng = np.random.default_rng(0)
    alpha, reward = (rng.uniform(low, 1, (1, len(error))).astype(np.float32) for low in (0, -1))
    columns = Columns({"alpha": jnp.asarray(alpha), "reward_map": jnp.asarray(reward)}, {})
    objective = RewardWeighted(reference_coefficient=0.5)
    loss, _ = objective_loss(
        objective, scores_of(model, one), masks, columns, objective_totals(objective, masks, columns))
    assert float(loss) == pytest.approx(np.mean((alpha[0] * reward[0] + 0.5) * error), rel=2e-5)


@pytest.mark.slow
def test_gradients_reach_what_the_objective_trains_and_never_the_picture_tokenizer(model):
    graphdef, state = nnx.split(model)
    expected = records("vq")
    row = batch(model, drawn_of_sft()[:2])
    row = dataclasses.replace(row, codes=None, pixels=jnp.asarray(expected["image_uint8"])[None])
    forward = JanusForward(model.config, COMPUTE)
    gradient = jax.jit(jax.grad(
        lambda state: jnp.mean(forward.scores(nnx.merge(graphdef, state), row, {}).image_error)))(state)
    largest = {part: max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient[part]))
               for part in gradient}
    assert all(largest[part] > 0 for part in ("llm", "gen_embed", "gen_aligner", "gen_head"))
    assert largest["vq"] == largest["vision"] == largest["aligner"] == 0
    assert float(jnp.max(jnp.abs(gradient["llm"]["lm_head"]["kernel"].get_value()))) == 0
