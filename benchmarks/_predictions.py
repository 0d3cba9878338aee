"""What a model predicts of pictures that it is shown, and how far two sets of predictions are apart.

B rows · C image tokens of a row · P values of a latent token, or codes of a codebook
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import qwix
from flax import nnx

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.models.layers.quantized import quantizable, quantize

Predictions = Callable[[nnx.State, Any, Any], np.ndarray]
_TAPPED = ("velocity", "code_logits")


def compute_of(dtype: str) -> ComputeConfig:
    """In which predictions can be looked at."""
    return ComputeConfig(dtype=dtype, remat="none", scan_layers=False)


def predictions_of(graphdef: nnx.GraphDef, scores: Callable) -> Predictions:
    """A compiled function of (parameters, batch, draws), whose values are float32 [B, C, P].

    Args:
      graphdef: of the model.
      scores: `Forward.scores` under `compute_of`, or what takes the same arguments.

    Returns:
      Velocities; or scores over the codebook, less their mean, which no probability depends on.
    """

    @jax.jit
    def predict(state: nnx.State, batch: Any, draws: Any) -> jax.Array:
        tapped: dict[str, jax.Array] = {}
        scores(nnx.merge(graphdef, state), batch, draws, tap=tapped.__setitem__)
        (name,) = tapped.keys() & set(_TAPPED)
        values = tapped[name].astype(jnp.float32)
        return values - values.mean(axis=-1, keepdims=True) if name == "code_logits" else values

    return lambda state, batch, draws: np.asarray(predict(state, batch, draws))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference, of the norm that is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def same_code(logits: np.ndarray, others: np.ndarray) -> float:
    """Share of codes that turn out alike if both are drawn at temperature 1 with the same Gumbel noise, [B, C, P]."""
    noise = np.random.default_rng(0).gumbel(size=logits.shape)
    return float(np.mean(np.argmax(logits + noise, -1) == np.argmax(others + noise, -1)))


def variation(logits: np.ndarray, others: np.ndarray) -> float:
    """Mean total variation between the distributions of both over the codebook, [B, C, P]: half the sum of what the
    probabilities differ by."""
    return float(np.mean(np.abs(_softmax(logits) - _softmax(others)).sum(axis=-1)) / 2)


def matrix_error(state: nnx.State, dtype: str) -> float:
    """`relative_error` of the matrices [I, O] that `dtype` keeps as integers: the root of its mean square.

    Args:
      state: float32.
      dtype: "int8" or "int4".
    """
    names, squares = quantizable(state), []
    for path, variable in nnx.to_flat_state(state):
        if dotted(path) in names:
            squares.append(_squares(variable.get_value(), dtype))
    return float(np.sqrt(np.mean(np.concatenate(squares))))


@functools.partial(jax.jit, static_argnums=1)
def _squares(matrices: jax.Array, dtype: str) -> jax.Array:
    difference = qwix.dequantize(quantize(matrices, dtype)) - matrices
    return jnp.sum(difference**2, axis=(1, 2)) / jnp.sum(matrices**2, axis=(1, 2))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
