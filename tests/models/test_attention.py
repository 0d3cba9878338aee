import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.attention_mask import allowed
from srum_jax.models.layers.layer_stack import REMAT_POLICIES
from srum_jax.models.layers.splash_attention import splash_attention
from tests.models.packs import CAUSAL, NOISE, mesh_of, random_stream, stream


def qkv(rows, length, heads=4, kv_heads=2, head_dim=16, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    counts = (heads, kv_heads, kv_heads)
    return [jax.random.normal(key, (rows, length, n, head_dim)) for key, n in zip(keys, counts, strict=True)]


allowed_compiled = jax.jit(allowed)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_mask_of_integers_is_the_mask_of_splits(data):
    """Built split by split as the specification words it, then permuted as storage order may be."""
    samples = data.draw(st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=4),
                                 min_size=1, max_size=3))
    owner, split, mode = [], [], []
    for s, splits in enumerate(samples):
        for length, kind in splits:
            owner += [s] * length
            split += [len(split) + 1000] * length
            mode += [kind] * length
    n = len(owner)
    room = 48 - n  # padding behind, so that all examples have one shape
    expected = np.zeros((n, n), bool)
    for i in range(n):
        for j in range(n):
            own_block = split[i] == split[j] and mode[i] != CAUSAL
            hidden = mode[j] == NOISE and split[i] != split[j]
            expected[i, j] = owner[i] == owner[j] and (j <= i or own_block) and not hidden
    fields = ((owner, -1), (split, -1), (mode, 0))
    tokens = stream(*(np.array([values + [filling] * room]) for values, filling in fields))
    permutation = np.concatenate([np.random.default_rng(n).permutation(n), np.arange(n, 48)])
    stored = jax.tree.map(lambda x: x[:, permutation], tokens)
    found = allowed_compiled(stored, stored)[0]
    np.testing.assert_array_equal(found[:n, :n], expected[np.ix_(permutation[:n], permutation[:n])])


def test_no_query_is_without_a_key_even_in_padding():
    tokens = random_stream(np.random.default_rng(0), 4, 48)
    assert bool(jnp.all(jnp.any(allowed(tokens, tokens), axis=-1)))
    assert int((tokens.sample < 0).sum()) > 0


@pytest.mark.parametrize("block", [7, 16, 1000])
def test_chunked_attention_equals_dense_attention_and_so_do_its_gradients(block):
    tokens = random_stream(np.random.default_rng(1), 2, 48)
    inputs = qkv(2, 48)

    def loss(route):
        attention = make_attention(tokens, tokens, route, block)
        return lambda inputs: jnp.sum(jnp.sin(attention(*inputs)))

    dense, chunked = (jax.jit(jax.value_and_grad(loss(route)))(inputs) for route in ("dense", "chunked"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), dense, chunked)


@pytest.mark.slow
@pytest.mark.parametrize("mesh_shape, prefix", [(None, 0), (None, 40), ((2, 2, 2, 1), 0), ((1, 2, 2, 2), 40)])
def test_the_tpu_kernel_interpreted_equals_dense_attention_on_and_off_a_mesh(mesh_shape, prefix):
    rows, length = 4, 200  # not a multiple of the block
    tokens = random_stream(np.random.default_rng(2), rows, length)
    inputs = qkv(rows, length, head_dim=128)

    def loss(make):
        def value(tokens, inputs):
            real = (tokens.sample >= 0)[..., None, None]
            return jnp.sum(jnp.where(real, jnp.sin(make(tokens)(*inputs)), 0.0))

        return jax.jit(jax.value_and_grad(value, argnums=1))

    dense = loss(lambda t: make_attention(t, t, "dense", 128))(tokens, inputs)
    kernel = loss(lambda t: splash_attention(t, t, 128, prefix=prefix, interpret=True))
    if mesh_shape is None:
        splash = kernel(tokens, inputs)
    else:
        with jax.set_mesh(mesh_of(*mesh_shape)):
            splash = kernel(tokens, inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5, rtol=1e-5), dense, splash)


@pytest.mark.parametrize("remat, runs", [("full", 2), ("attention", 1)])
def test_what_is_kept_of_attention_spares_the_backward_pass_the_forward_kernel(remat, runs):
    tokens = random_stream(np.random.default_rng(3), 1, 256)
    attention = splash_attention(tokens, tokens, 128, interpret=True)

    def loss(inputs):
        return jnp.sum(jnp.sin(jax.checkpoint(attention, policy=REMAT_POLICIES[remat])(*inputs)))

    text = str(jax.make_jaxpr(jax.grad(loss))(qkv(1, 256, head_dim=128)))
    assert text.count("name=splash_mha_fwd") == runs


@pytest.mark.parametrize("route", ["dense", "chunked"])
@pytest.mark.parametrize("remat", ["full", "attention", "dots"])
def test_remat_changes_no_gradient(route, remat):
    tokens = random_stream(np.random.default_rng(4), 1, 32)
    attention = make_attention(tokens, tokens, route, 16)

    def gradient(function):
        return jax.grad(lambda inputs: jnp.sum(jnp.sin(function(*inputs))))(qkv(1, 32))

    kept = gradient(jax.checkpoint(attention, policy=REMAT_POLICIES[remat]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient(attention), kept)
