"""A model's arrays under the names and in the layouts of the published checkpoint."""

import jax
import numpy as np
from flax import nnx

from srum_jax.models.layers.logical_axes import dotted
from srum_jax.weights.table import Plan


def published(state: nnx.State, plan: Plan) -> dict[str, np.ndarray]:
    """Every array of `state`, split into layers and transposed as published.

    Args:
      state: parameters, or anything of the same structure, such as gradients.
      plan: pairs the model's arrays with published names.
    """
    found: dict[str, np.ndarray] = {}
    for path, variable in nnx.to_flat_state(state):
        values = np.asarray(jax.device_get(variable.get_value()))
        for piece in plan.pieces.get(dotted(path), ()):
            whole = found.setdefault(piece.source, np.zeros(piece.source_shape, values.dtype))
            whole[piece.own] = piece.to_source(values if piece.layer is None else values[piece.layer])
    return found
