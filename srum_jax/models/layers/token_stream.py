"""The integers that attention needs to know of each token, stored in any order."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenStream:
    """What attention has to know of each token of one buffer. All fields int32 [B, C]."""

    sample: Array  # number of the sample in its row; -1 marks padding
    split: Array  # number of the split, unique in the row; -1 for padding
    order: Array  # place in the row's logical sequence
    full: Array  # 1 where the split attends in both directions (full and noise splits)
    noise: Array  # 1 where the split is a noise split, invisible from outside
    position: Array  # rotary position

    @property
    def real(self) -> Array:
        """Bool [B, C]: False for padding."""
        return self.sample >= 0


def concatenate(streams: list[TokenStream]) -> TokenStream:
    """Joins token streams along the token axis."""
    return jax.tree.map(lambda *fields: jnp.concatenate(fields, axis=-1), *streams)


def padded(x: jax.Array, multiple: int, value: int = 0) -> jax.Array:
    """Pads the tokens of an array [B, S, ...] at their end to a multiple, with a value; -1 for fields of streams."""
    widths = [(0, 0)] * x.ndim
    widths[1] = (0, -x.shape[1] % multiple)
    return jnp.pad(x, widths, constant_values=value)


def causal_tokens(real: Array) -> TokenStream:
    """Rows of one text each, padded on either side: bool [B, S]. Positions count from each text's first token."""
    number, zeros = jnp.where(real, 0, -1), jnp.zeros(real.shape, jnp.int32)
    order = jnp.broadcast_to(jnp.arange(real.shape[1]), real.shape)
    position = jnp.maximum(jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1, 0)
    return TokenStream(sample=number, split=number, order=order, full=zeros, noise=zeros, position=position)


def earlier_tokens(real: Array) -> TokenStream:
    """Rows of one text each as those see them whose tokens follow on all of them: bool [B, S]."""
    sample = jnp.where(real, 0, -1)
    zeros, before = jnp.zeros_like(sample), jnp.full_like(sample, -1)
    return TokenStream(sample=sample, split=before, order=before, full=zeros, noise=zeros, position=zeros)
