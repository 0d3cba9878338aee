"""Modules of random values without their initializers, which would be compiled for every shape."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Module = TypeVar("Module", bound=nnx.Module)


def filled(build: Callable[[], Module], spread: float = 0.3) -> Module:
    """What `build` makes, every parameter drawn anew: no bias is 0 and no scale 1."""
    graph, shapes = nnx.split(nnx.eval_shape(build))
    draw = np.random.default_rng(0)
    return nnx.merge(graph, jax.tree.map(lambda x: jnp.asarray(draw.normal(0, spread, x.shape), x.dtype), shapes))
