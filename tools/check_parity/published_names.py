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
    arrays = {dotted(path): np.asarray(jax.device_get(v.get_value())) for path, v in nnx.to_flat_state(state)}
    return {
        piece.source: piece.to_source(values if piece.layer is None else values[piece.layer])
        for target, values in arrays.items()
        for piece in plan.pieces.get(target, ())
    }
