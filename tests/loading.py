"""A checkpoint of BAGEL, opened and loaded in one go."""

from collections.abc import Iterable
from typing import Any

from etils import epath
from flax import nnx

from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load


def load_bagel(
    path: epath.PathLike, parts: Iterable[str] | None = None, **options: Any
) -> tuple[Any, nnx.GraphDef, nnx.State]:
    """Configuration, graph definition and state; see `open_checkpoint` and `load`."""
    checkpoint = open_checkpoint(path, BAGEL, parts)
    return checkpoint.config, *load(checkpoint, **options)
