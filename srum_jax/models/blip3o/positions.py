"""Rotary positions of the language model: triples of time, row and column (M-RoPE, Qwen2-VL section 2.1).

B rows · S tokens
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.models.blip3o.config import LanguageConfig
from srum_jax.models.layers.rope import RotaryAngles, rotary_angles


def mrope_angles(position: jax.Array, config: LanguageConfig) -> RotaryAngles:
    """Angles of tokens by three positions each; equal ones give ordinary rotary angles.

    Args:
      position: int32 [3, B, S]: time, row, column.
      config: of the language model; its `mrope_section` says which frequencies each turns.
    """
    angles = [rotary_angles(axis, config.head_dim, config.rope_theta) for axis in position]
    ends = np.cumsum(config.mrope_section)
    begins = ends - config.mrope_section
    return jax.tree.map(
        lambda *axes: jnp.concatenate(
            [x[..., begin:end] for x, begin, end in zip(axes, begins, ends, strict=True)], axis=-1
        ),
        *angles,
    )


def alike(position: jax.Array) -> jax.Array:
    """The same position in time, row and column: int32 [B, S] to [3, B, S]."""
    return jnp.broadcast_to(position, (3, *position.shape))


def understanding_positions(
    ids: np.ndarray, real: np.ndarray, grids: Sequence[tuple[int, int]], image_pad: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of conversations with pictures. On the host.

    A text token is one further on in all three; a picture's tokens share the time, and count rows and columns from it;
    what follows continues behind the longer side.

    Args:
      ids: int [B, S].
      real: bool [B, S]; padding may lie anywhere.
      grids: rows and columns of tokens of each picture, in the order in which they come.
      image_pad: id that stands for a picture's token.

    Returns:
      int32 [3, B, S], 1 at padding; and the position of what follows, int32 [B].

    Raises:
      ValueError: a run of picture tokens is not as long as its grid says.
    """
    position = np.ones((3, *ids.shape), np.int32)
    following = np.zeros(len(ids), np.int32)
    remaining = list(grids)
    for row, (tokens, there) in enumerate(zip(ids, np.asarray(real, bool), strict=True)):
        places = np.flatnonzero(there)
        place, start = 0, 0
        while place < len(places):
            if tokens[places[place]] != image_pad:
                position[:, row, places[place]] = start
                place, start = place + 1, start + 1
                continue
            if not remaining:
                raise ValueError(f"Row {row} holds more pictures than the {len(grids)} grids that were given.")
            rows, columns = remaining.pop(0)
            run = places[place : place + rows * columns]
            if len(run) < rows * columns or np.any(tokens[run] != image_pad):
                raise ValueError(f"Row {row}: expected {rows * columns} picture tokens at {places[place]}, as the grid "
                                 f"of {rows} x {columns} says, found fewer.")
            offset = np.stack([np.zeros(rows * columns, np.int32), *np.divmod(np.arange(rows * columns), columns)])
            position[:, row, run] = start + offset
            place, start = place + rows * columns, start + max(rows, columns)
        following[row] = start
    if remaining:
        raise ValueError(f"Expected places for {len(grids)} pictures, found {len(grids) - len(remaining)}.")
    return position, following
