"""Text that is written in pieces is the text that is written at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import begin_text, decode_text, go_on

VOCAB, START, END = 12, 1, 0
TABLE = jax.random.normal(jax.random.key(0), (VOCAB, VOCAB))
KEYS = jax.random.split(jax.random.key(1), 3)
ACTIVE = jnp.array([True, True, False])


def next_logits(context, token, count):
    """Of a model that remembers the sum of what it was fed."""
    context = context + token * count
    return TABLE[token] + jnp.sin(context)[:, None] * TABLE[:1], context


@pytest.mark.parametrize("temperature", [None, 0.8])
@pytest.mark.parametrize("pieces", [(1, 2, 3, 20), (7, 20), (20, 20)])
def test_where_writing_was_interrupted_changes_nothing(temperature, pieces):
    sampler, context = TextSampler(20, temperature=temperature), jnp.zeros(3, jnp.int32)
    whole = decode_text(next_logits, context, KEYS, ACTIVE, sampler, start=START, end=END)
    begun = begin_text(context, ACTIVE, sampler, start=START)
    for until in pieces:
        begun = go_on(next_logits, begun, KEYS, jnp.int32(until), sampler, end=END)
        assert int(begun.step) <= until and int(begun.text.num_tokens.max()) <= until
        written = begun.text.token_ids[:, : int(begun.step)]
        np.testing.assert_array_equal(written, whole.token_ids[:, : int(begun.step)])
    jax.tree.map(np.testing.assert_array_equal, begun.text, whole)
    assert int(whole.num_tokens[2]) == 0 and int(whole.num_tokens[0]) > 1
