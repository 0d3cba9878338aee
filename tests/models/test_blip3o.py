"""The understanding model of BLIP3o on a tiny model of random weights; its numbers are compared in tests/golden."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from srum_jax.aot.hlo_costs import products
from srum_jax.aot.hlo_program import Program
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.model import Blip3o
from srum_jax.models.blip3o.patches import arrange, eva_crop, flat_patches, smart_resize, window_layout
from srum_jax.models.blip3o.positions import alike, mrope_angles, understanding_positions
from srum_jax.models.blip3o.prompts import generation_prompt, understanding_prompt, with_queries
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.rope import rotary_angles
from tests.models.filled import filled
from tests.models.tiny_blip3o import tiny_config

COMPUTE = ComputeConfig()


@pytest.fixture(scope="module")
def config() -> Blip3oConfig:
    return tiny_config()


@pytest.fixture(scope="module")
def model(config) -> Blip3o:
    return filled(lambda: Blip3o(config, rngs=nnx.Rngs(0), parts={"vision"}))


@functools.partial(nnx.jit, static_argnames="compute")
def seen(vision, pictures, compute=COMPUTE):
    return vision(pictures, compute)


@nnx.jit
def query_states(model, ids, real, first_query):
    return model.query_states(ids, real, first_query, COMPUTE)


def picture(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def with_queries_of(model, vectors):
    """The model with other queries, which may be traced."""
    graphdef, state = nnx.split(model)
    state["queries"]["vectors"] = state["queries"]["vectors"].replace(vectors)
    return nnx.merge(graphdef, state)


@pytest.mark.parametrize("before, after", [
    ((1024, 1024), (1036, 1036)), ((28, 28), (56, 56)), ((70, 98), (56, 112)), ((42, 300), (56, 308)),
    ((8000, 8000), (3584, 3584)),
])
def test_pictures_are_resized_to_multiples_of_a_token_halves_to_even(before, after):
    assert smart_resize(*before, 28) == after


def test_a_window_is_a_square_of_tokens_smaller_at_the_edges(config):
    vision = dataclasses.replace(config.vision, window_size=56)  # 2 x 2 tokens
    layout = window_layout((6, 10), vision)  # 3 x 5 tokens
    assert layout.tolist() == [
        [0, 1, 5, 6], [2, 3, 7, 8], [4, -1, 9, -1], [10, 11, -1, -1], [12, 13, -1, -1], [14, -1, -1, -1]]


def test_a_picture_reads_alike_alone_and_beside_a_larger_one(config, model):
    small, large = (flat_patches(picture(*size), config.vision) for size in ((60, 90), (200, 150)))
    alone = seen(model.vision, arrange([small], config.vision))
    both = seen(model.vision, arrange([small, large], config.vision))
    count = len(small[0]) // config.vision.merge_size**2
    np.testing.assert_allclose(both[0, :count], alone[0, :count], rtol=1e-4, atol=1e-5)


def test_the_ways_to_compute_a_picture_agree(config, model):
    pictures = arrange([flat_patches(picture(120, 150), config.vision)], config.vision)
    expected = seen(model.vision, pictures, ComputeConfig(scan_layers=False, remat="none"))
    found = seen(model.vision, pictures, ComputeConfig(attention="chunked", attention_block=32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_picture_with_too_many_tokens_for_a_row_is_refused(config):
    with pytest.raises(ValueError, match="at most 1 and"):
        arrange([flat_patches(picture(300, 300), config.vision)], config.vision, num_windows=1)


def test_a_tower_cuts_the_middle_out_of_a_picture():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    assert eva_crop(Image.fromarray(pixels), 20).min() > 200, "the white middle third alone"


def test_equal_positions_give_ordinary_rotary_angles(config):
    position = jnp.arange(12).reshape(2, 6)
    expected = rotary_angles(position, config.llm.head_dim, config.llm.rope_theta)
    found = mrope_angles(alike(position), config.llm)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_picture_counts_rows_and_columns_and_text_goes_on_behind_its_longer_side():
    ids = np.asarray([[0, 5, 9, 9, 9, 9, 9, 9, 6, 7]])
    real = ids > 0
    position, following = understanding_positions(ids, real, [(2, 3)], image_pad=9)
    assert position[:, 0].tolist() == [
        [1, 0, 1, 1, 1, 1, 1, 1, 4, 5], [1, 0, 1, 1, 1, 2, 2, 2, 4, 5], [1, 0, 1, 2, 3, 1, 2, 3, 4, 5]]
    assert following.tolist() == [6]


@pytest.mark.parametrize("grids", [[], [(2, 4)], [(2, 3), (1, 1)]])
def test_runs_of_picture_tokens_that_are_not_as_their_grids_say_are_refused(grids):
    ids = np.asarray([[5, 9, 9, 9, 9, 9, 9, 6]])
    with pytest.raises(ValueError):
        understanding_positions(ids, np.ones_like(ids, bool), grids, image_pad=9)


def encode(text):
    return [sum(text.encode()) % 100]


def test_the_assistants_turn_is_closed_in_training_and_open_when_drawing(config):
    tokens = config.special_tokens
    drawing = generation_prompt("a cat", encode, tokens, "open")
    assert drawing[-2:] == [tokens.turn_start, *encode("assistant\n")]
    assert generation_prompt("a cat", encode, tokens, "closed") == [*drawing, tokens.turn_end, *encode("\n")]


def test_a_question_follows_its_pictures(config):
    tokens = config.special_tokens
    ids = understanding_prompt("what?", [3], encode, tokens)
    start = ids.index(tokens.vision_start)
    assert ids[start : start + 6] == [tokens.vision_start, *[tokens.image_pad] * 3, tokens.vision_end,
                                      *encode("what?")]
    assert ids[-2:] == [tokens.turn_start, *encode("assistant\n")]


def test_queries_follow_their_prompt_and_long_prompts_are_cut(config):
    tokens, queries = config.special_tokens, config.num_queries
    short = dataclasses.replace(config, max_prompt_tokens=queries + 4)
    prompts = with_queries([[1, 2, 3, 4, 5], [1]], short)
    assert prompts.first_query.tolist() == [4, 2] and prompts.ids.shape == (2, queries + 4)
    assert prompts.ids[0].tolist() == [1, 2, 3, tokens.image_start, *[tokens.image_query] * queries]
    assert prompts.ids[1, -2:].tolist() == [tokens.pad] * 2 and prompts.real[1].sum() == queries + 2
    with pytest.raises(ValueError, match="at least"):
        with_queries([[1, 2, 3]], short, width=queries)


def test_what_lies_behind_the_queries_changes_nothing(config, model):
    one = with_queries([[1, 2, 3]], config)
    padded = with_queries([[1, 2, 3], [4, 5, 6, 7, 8]], config)
    alone = query_states(model, one.ids, one.real, one.first_query)
    both = query_states(model, padded.ids, padded.real, padded.first_query)
    assert alone.shape == (1, config.num_queries, config.llm.hidden_size)
    np.testing.assert_allclose(both[:1], alone, rtol=1e-4, atol=1e-5)


def test_prompts_and_queries_side_by_side_are_the_model_over_the_whole_text(config, model):
    prompts = with_queries([[1, 2, 3], [4, 5, 6, 7, 8]], config, width=config.num_queries + 9)
    ids, real, first = map(jnp.asarray, (prompts.ids, prompts.real, prompts.first_query))
    places = first[:, None] + jnp.arange(config.num_queries)[None]
    rows = jnp.arange(2)[:, None]
    x = model.llm.embed(ids, jnp.float32).at[rows, places].set(model.queries.vectors[...][0])
    position = alike(jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape))
    whole = nnx.jit(lambda model, *inputs: model.hidden(*inputs, COMPUTE))(model, x, real, position)
    np.testing.assert_allclose(query_states(model, ids, real, first), whole[rows, places], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_a_longer_prompt_costs_the_backward_pass_its_keys_and_values_at_most(config, model, remat):
    compute = dataclasses.replace(COMPUTE, remat=remat)

    def work(prompt: int) -> tuple[float, float]:
        """FLOPs forward, and of both passes, that XLA leaves of a prompt of so many tokens."""
        batch = with_queries([[1] * (prompt - 1)], config)

        def states(vectors):
            return with_queries_of(model, vectors).query_states(
                *map(jnp.asarray, (batch.ids, batch.real, batch.first_query)), compute).sum()

        vectors = model.queries.vectors[...]
        return tuple(sum(product.flops for product in products(Program(
            jax.jit(function).lower(vectors).compile().as_text()))) for function in (states, jax.grad(states)))

    (forward, both), (longer_forward, longer_both) = work(32), work(64)
    assert longer_forward > forward
    more = (longer_both - longer_forward) - (both - forward)
    assert more < 0.5 * (longer_forward - forward), "one pass more through the prompt, and two with remat, are not made"


def test_the_queries_get_a_gradient_through_the_language_model(config, model):
    prompts = with_queries([[1, 2, 3]], config)

    def loss(vectors):
        states = with_queries_of(model, vectors).query_states(
            *map(jnp.asarray, (prompts.ids, prompts.real, prompts.first_query)), COMPUTE)
        return jnp.sum(jnp.square(states[:, 0]))

    gradient = jax.jit(jax.grad(loss))(model.queries.vectors[...])
    assert np.abs(gradient[0, 0]).max() > 0, "the first query's own state depends on it"
    assert np.abs(gradient[0, 1:]).max() == 0, "and on none behind it"
