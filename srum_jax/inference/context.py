"""What a sequence holds so far: keys and values of every layer, for rows of different lengths.

Every prefill appends one chunk of slots, as wide in all rows, of which a row fills as many as it has tokens. Writing
is then one slice, and an earlier state of a context is the same arrays with the later slots hidden.

L layers · B rows · C slots · T slots of a chunk · K key/value heads · H head width
"""

import dataclasses

import jax
import jax.numpy as jnp

from srum_jax.models.decoder_config import DecoderConfig
from srum_jax.models.layers.logical_axes import ROWS, constrain
from srum_jax.models.layers.token_stream import TokenStream, earlier_tokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeyValues:
    """Keys after norm and rotation, and values."""

    key: jax.Array  # [L, B, C, K, H]
    value: jax.Array  # [L, B, C, K, H]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """A batch of sequences that can be continued."""

    cache: KeyValues
    real: jax.Array  # bool [B, C]: slots that hold a token
    used: jax.Array  # int32 []: slots that chunks have taken
    next_position: jax.Array  # int32 [B]: rotary position of what follows

    @property
    def capacity(self) -> int:
        """Slots in all."""
        return self.real.shape[1]

    @property
    def length(self) -> jax.Array:
        """Int32 [B]: tokens of each row."""
        return jnp.sum(self.real, axis=1, dtype=jnp.int32)

    def bookmark(self) -> "Bookmark":
        """Remembers this state. Outlives the donation of the context itself."""
        return Bookmark(jnp.copy(self.used), jnp.copy(self.next_position))

    def at(self, bookmark: "Bookmark") -> "Context":
        """The state that was remembered, on the same arrays; what came later is hidden."""
        shown = jnp.arange(self.capacity)[None] < bookmark.used
        return dataclasses.replace(self, real=self.real & shown, next_position=bookmark.next_position)

    def append(self, chunk: KeyValues, real: jax.Array, advance: jax.Array) -> "Context":
        """Writes a chunk into the next free slots; there must be as many.

        Args:
          chunk: [L, B, T, K, H].
          real: bool [B, T].
          advance: int32 [B], what the rotary position moves by.
        """
        cache = jax.tree.map(
            lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, self.used, axis=2), self.cache, chunk
        )
        return Context(
            _constrain(cache),
            jax.lax.dynamic_update_slice_in_dim(self.real, real, self.used, axis=1),
            self.used + real.shape[1],
            self.next_position + advance,
        )

    def with_room(self, slots: int) -> "Context":
        """The same context with more free slots."""
        cache = jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, slots), (0, 0), (0, 0))), self.cache)
        return dataclasses.replace(self, cache=_constrain(cache), real=jnp.pad(self.real, ((0, 0), (0, slots))))

    def keys(self) -> TokenStream:
        """The slots as attention sees them: all before any new token, free ones as padding."""
        return earlier_tokens(self.real)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bookmark:
    """An earlier state of a context."""

    used: jax.Array  # int32 []
    next_position: jax.Array  # int32 [B]


def empty_context(config: DecoderConfig, rows: int, capacity: int, dtype: jnp.dtype) -> Context:
    """Rows that hold nothing yet.

    Args:
      config: of the language model.
      rows: B.
      capacity: C, slots for all chunks to come, padding of rows included.
      dtype: of keys and values.
    """
    shape = (config.num_layers, rows, capacity, config.num_kv_heads, config.head_dim)
    return Context(
        _constrain(KeyValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))),
        jnp.zeros((rows, capacity), bool), jnp.zeros((), jnp.int32), jnp.zeros(rows, jnp.int32),
    )


def stack_branches(contexts: list[Context]) -> Context:
    """Interleaves R contexts of the same rows into one of B * R rows, row-major, so that rows stay on their devices.

    The result has the capacity of the largest, and is to be read, not continued.
    """
    capacity = max(context.capacity for context in contexts)
    contexts = [context.with_room(capacity - context.capacity) for context in contexts]

    def interleave(axis: int, *arrays: jax.Array) -> jax.Array:
        stacked = jnp.stack(arrays, axis=axis + 1)
        return stacked.reshape(*stacked.shape[:axis], -1, *stacked.shape[axis + 2 :])

    return Context(
        _constrain(jax.tree.map(lambda *x: interleave(1, *x), *(context.cache for context in contexts))),
        interleave(0, *(context.real for context in contexts)),
        jnp.asarray(capacity, jnp.int32),
        interleave(0, *(context.next_position for context in contexts)),
    )


def _constrain(cache: KeyValues) -> KeyValues:
    mesh = jax.sharding.get_abstract_mesh()
    heads = cache.key.shape[3]
    split_heads = not mesh.empty and heads % mesh.shape["tensor"] == 0
    return jax.tree.map(lambda x: constrain(x, None, ROWS, None, "tensor" if split_heads else None), cache)
