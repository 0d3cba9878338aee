"""Reading a case's tensors."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.weights.safetensors_read import SafetensorsFile

Tensors = dict[str, np.ndarray]


def read_tensors(path: epath.Path) -> Tensors:
    """All tensors of one safetensors file."""
    file = SafetensorsFile(path)
    return {name: np.array(file.read(name)) for name in file.tensors}


@contextlib.contextmanager
def reading(path: epath.Path) -> Iterator[None]:
    """Says of which file it was that something the format promises is absent or of another shape."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OSError) as error:
        raise BadInput(f"{path}: not a case of the documented format ({type(error).__name__}: {error}).") from error


def channels_last(x: np.ndarray) -> jax.Array:
    """[B, C, H, W] to [B, H, W, C]."""
    return jnp.asarray(np.moveaxis(x, 1, -1))


def channels_first(x: jax.Array) -> np.ndarray:
    """The inverse."""
    return np.moveaxis(np.asarray(x), -1, 1)
