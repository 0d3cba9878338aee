"""Reading a case's tensors."""


import numpy as np
from etils import epath

from srum_jax.weights.safetensors_read import SafetensorsFile

Tensors = dict[str, np.ndarray]


def read_tensors(path: epath.Path) -> Tensors:
    """All tensors of one safetensors file."""
    file = SafetensorsFile(path)
    return {name: np.array(file.read(name)) for name in file.tensors}
