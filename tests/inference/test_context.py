import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.inference.context import KeyValues, empty_context, stack_branches
from tests.models.packs import small_config

LLM = small_config().llm  # 3 layers, 2 key/value heads of 16


def chunk(rng, rows: int, width: int) -> KeyValues:
    return KeyValues(*(jnp.asarray(rng.normal(size=(3, rows, width, 2, 16)), jnp.float32) for _ in range(2)))


def filled():
    rng = np.random.default_rng(0)
    context = empty_context(LLM, 2, 8, jnp.float32)
    first, second = chunk(rng, 2, 3), chunk(rng, 2, 4)
    context = context.append(first, jnp.array([[1, 1, 1], [1, 0, 0]], bool), jnp.array([3, 1]))
    bookmark = context.bookmark()
    return context.append(second, jnp.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool), jnp.array([2, 1])), bookmark, second


def test_chunks_lie_one_after_another_and_rows_count_their_own_tokens():
    context, _, second = filled()
    assert context.length.tolist() == [5, 5] and context.next_position.tolist() == [5, 2] and int(context.used) == 7
    np.testing.assert_array_equal(context.cache.key[:, :, 3:7], second.key)
    assert context.keys().sample.tolist() == [[0, 0, 0, 0, 0, -1, -1, -1], [0, -1, -1, 0, 0, 0, 0, -1]]


def test_a_bookmark_hides_what_came_later():
    context, bookmark, _ = filled()
    earlier = context.at(bookmark)
    assert earlier.length.tolist() == [3, 1] and earlier.next_position.tolist() == [3, 1]
    assert earlier.real[:, 3:].sum() == 0


def test_a_bookmark_outlives_the_donation_of_its_context():
    context, _, _ = filled()
    bookmark = context.bookmark()
    grow = jax.jit(lambda c: c.append(KeyValues(c.cache.key[:, :, :1], c.cache.value[:, :, :1]),
                                      jnp.ones((2, 1), bool), jnp.array([1, 1])), donate_argnums=0)
    longer = grow(context)
    assert context.used.is_deleted()
    assert longer.at(bookmark).length.tolist() == [5, 5] and longer.length.tolist() == [6, 6]


def test_more_room_changes_nothing_that_was_there():
    context, _, _ = filled()
    wide = context.with_room(5)
    assert wide.capacity == 13 and wide.length.tolist() == context.length.tolist()
    np.testing.assert_array_equal(wide.cache.value[:, :, :8], context.cache.value)


def test_branches_are_interleaved_row_by_row():
    context, bookmark, _ = filled()
    stacked = stack_branches([context, context.at(bookmark), empty_context(LLM, 2, 2, jnp.float32)])
    assert stacked.length.tolist() == [5, 3, 0, 5, 1, 0]
    assert stacked.next_position.tolist() == [5, 3, 0, 2, 1, 0]
    np.testing.assert_array_equal(stacked.cache.key[:, 3], context.cache.key[:, 1])
