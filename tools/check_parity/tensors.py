"""Reading a case's tensors."""

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from srum_jax.weights.safetensors_read import SafetensorsFile

Tensors = dict[str, np.ndarray]


def read_tensors(path: epath.Path) -> Tensors:
    """All tensors of one safetensors file."""
    file = SafetensorsFile(path)
    return {name: np.array(file.read(name)) for name in file.tensors}


def channels_last(x: np.ndarray) -> jax.Array:
    """[B, C, H, W] to [B, H, W, C]."""
    return jnp.asarray(np.moveaxis(x, 1, -1))


def channels_first(x: jax.Array) -> np.ndarray:
    """The inverse."""
    return np.moveaxis(np.asarray(x), -1, 1)
