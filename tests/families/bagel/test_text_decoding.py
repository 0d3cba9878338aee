import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.families.bagel.conversation import Conversation
from srum_jax.families.bagel.text_writing import write_text
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.settings import TextSampler
from srum_jax.models.bagel.decoder import Hidden, Rotary
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import make_attention
from tests.families.bagel.small_pipeline import random_model, small_pipeline
from tests.models.packs import CAUSAL, stream

TEXTS = [[5, 6, 7, 8], [9], [20, 21]]
BOS, EOS = 60, 61


def contexts(texts):
    programs = small_pipeline().generator.programs
    conversation = Conversation(programs, len(texts), 64, image_guidance=False)
    conversation.add_text(texts)
    return conversation


def decoded(texts, sampler, seeds=None, with_logits=False):
    model = nnx.merge(*random_model())
    keys = random_keys(seeds or [0] * len(texts), Use.TEXT)
    run = jax.jit(lambda context, keys: write_text(model, ComputeConfig(remat="none"), context, keys,
                                                   jnp.ones(len(texts), bool), sampler, with_logits))
    return jax.device_get(run(contexts(texts).everything, keys))


def logits_without_cache(sequences: list[list[int]]) -> np.ndarray:
    """Next-token logits at every place of whole sequences, computed at once; [rows, longest, vocabulary]."""
    model = nnx.merge(*random_model())
    width = max(map(len, sequences))
    ids = jnp.array([sequence + [0] * (width - len(sequence)) for sequence in sequences])
    real = np.array([[place < len(sequence) for place in range(width)] for sequence in sequences])
    number = np.where(real, 0, -1)
    tokens = stream(number, number, np.full_like(number, CAUSAL))

    @jax.jit
    def forward(ids):
        und = model.llm.embed(ids, jnp.float32)
        hidden = model.llm(Hidden(und, und[:, :0]), Rotary.of(tokens.position, width, model.llm.config),
                           make_attention(tokens, tokens, "dense", 16), ComputeConfig(remat="none"))
        return model.llm.lm_head(hidden.und)

    return np.asarray(forward(ids))


def test_greedy_decoding_picks_what_a_pass_over_the_whole_sequence_picks():
    result = decoded(TEXTS, TextSampler(7), with_logits=True)
    counts = result.num_tokens
    sequences = [[BOS, *text, EOS, *result.token_ids[row, : counts[row]].tolist()] for row, text in enumerate(TEXTS)]
    expected = logits_without_cache(sequences)
    assert counts.max() == 7
    for row, text in enumerate(TEXTS):
        first = len(text) + 2
        logits = expected[row, first : first + counts[row]]
        np.testing.assert_allclose(result.logits[row, : counts[row]], logits, atol=2e-5)
        assert result.token_ids[row, 1 : counts[row]].tolist() == logits[:-1].argmax(-1).tolist()
        assert result.finished[row] == (logits[-1].argmax() == EOS)


def test_rows_stop_on_their_own_and_the_end_marker_is_no_part_of_a_text():
    seeds = list(range(24))
    result = decoded([[5 + i] for i in range(24)], TextSampler(40, temperature=3.0), seeds, with_logits=True)
    assert 0 < result.finished.sum()
    assert len(set(result.num_tokens[result.finished])) > 3
    assert (result.token_ids[:, 0] == BOS).all() and (result.num_tokens[~result.finished] == 40).all()
    for row, count in enumerate(result.num_tokens):
        assert (result.token_ids[row, count:] == 0).all()
        assert not (result.token_ids[row, :count] == EOS).any()
    keys = random_keys(seeds, Use.TEXT)
    draw = jax.jit(jax.vmap(lambda key, step, logits: jax.random.categorical(jax.random.fold_in(key, step), logits)))
    for step in range(1, 4):
        going = result.num_tokens > step
        expected = draw(keys, np.full(24, step - 1), result.logits[:, step - 1] / 3.0)
        assert result.token_ids[going, step].tolist() == np.asarray(expected)[going].tolist()


def test_sampling_follows_the_softmax_of_the_logits():
    rows = 2000
    result = decoded([[5]] * rows, TextSampler(2, temperature=0.7), seeds=list(range(rows)), with_logits=True)
    expected = np.exp(result.logits[0, 0].astype(np.float64) / 0.7)
    expected /= expected.sum()
    drawn = np.bincount(result.token_ids[result.num_tokens > 1, 1], minlength=64) / rows
    drawn[EOS] = np.mean(result.finished & (result.num_tokens == 1))
    # Standard error of a share is below 0.0112; five of them.
    assert np.abs(drawn - expected).max() < 0.056
    assert expected.max() > 0.1


def test_rows_that_only_fill_up_the_batch_do_not_keep_it_running():
    model = nnx.merge(*random_model())
    result = write_text(model, ComputeConfig(remat="none"), contexts(TEXTS).everything,
                        random_keys([0] * 3, Use.TEXT), jnp.zeros(3, bool), TextSampler(1000))
    assert (np.asarray(result.num_tokens) == 0).all()


def test_logits_that_are_not_numbers_are_reported_by_row():
    graphdef, state = random_model()
    state = jax.tree_util.tree_map_with_path(
        lambda path, x: x.at[9].set(jnp.nan) if "'embed'" in jax.tree_util.keystr(path) else x, state)
    model = nnx.merge(graphdef, state)
    programs = small_pipeline().generator.programs
    conversation = Conversation(type(programs)(graphdef, state, programs.mesh, programs.compute), 3, 64, False)
    conversation.add_text(TEXTS)
    result = write_text(model, ComputeConfig(remat="none"), conversation.everything,
                        random_keys([0] * 3, Use.TEXT), jnp.ones(3, bool), TextSampler(2))
    assert np.asarray(result.healthy).tolist() == [True, False, True]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"max_tokens": 1}, "max_tokens: expected an integer of at least 2, found 1"),
    ({"max_tokens": 2.5}, "max_tokens: expected an integer"),
    ({"temperature": 0.0}, "temperature: expected a positive number"),
    ({"temperature": float("nan")}, "temperature: expected a positive number"),
])
def test_settings_out_of_range_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextSampler(**arguments)
