"""Random keys of requests: a row's numbers follow from its seed alone, not from the batch that it is in."""

import enum
from collections.abc import Sequence

import jax
import numpy as np

MAX_SEED = 2**63 - 1


class Use(enum.IntEnum):
    """What a key is for; part of what fixes an image, so never to be renumbered."""

    NOISE = 0  # where sampling starts
    TEXT = 1
    POSTERIOR = 2  # and following numbers: of the first, second, ... image given


def random_keys(seeds: Sequence[int], use: int) -> jax.Array:
    """One key per seed, [B].

    Args:
      seeds: 0 <= seed < 2^63.
      use: a `Use`, or `Use.POSTERIOR + k` for image k.
    """
    low, high = (np.array(part, np.uint32) for part in zip(*(divmod_seed(seed) for seed in seeds), strict=True))
    return _keys(low, high, use)


def divmod_seed(seed: int) -> tuple[int, int]:
    """The lower 32 bits of a seed, and the rest."""
    return seed & 0xFFFFFFFF, seed >> 32


@jax.jit
def _keys(low: np.ndarray, high: np.ndarray, use: int) -> jax.Array:
    def one(low: jax.Array, high: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(low), high), use)

    return jax.vmap(one)(low, high)
