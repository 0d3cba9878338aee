"""What the checks of Janus-Pro compute alike, and their tolerances."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.models.layers.token_stream import causal_tokens
from tools.check_parity.model_case import COMPUTE
from tools.check_parity.result import GroupResult, Unchecked, compare_recorded
from tools.check_parity.tensors import Tensors

ACTIVATION = {"share": 2e-5, "floor": 1e-6}
GRADIENT = {"share": 2e-5, "floor": 3e-7}
PIXELS = {"absolute": 1e-6}
BYTES = {"absolute": 0.0, "outlier_absolute": 1.0, "outlier_share": 0.01}  # of decoded pictures


def compared(
    name: str, expected: Tensors, found: dict[str, Any], given: Collection[str] = ()
) -> list[GroupResult | Unchecked]:
    """As `compare_recorded`: floats as activations."""
    return compare_recorded(name, expected, found, given, tolerance=lambda key: ACTIVATION)


def log_probs(logits: jax.Array, ids: np.ndarray) -> dict[str, jax.Array]:
    """What the cases record of the scores [N, V] of given tokens [N]."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(ids)[:, None], axis=-1)[:, 0]
    return {"logits": logits, "logprobs": chosen, "mean": jnp.mean(chosen), "sum": jnp.sum(chosen)}


def code_logits(
    model: JanusPro, prompt: np.ndarray, codes: np.ndarray, compute: ComputeConfig = COMPUTE
) -> jax.Array:
    """Scores of all codes behind prompts: int [B, S] and [B, N] to float32 [B, N, K]."""
    x = jnp.concatenate([model.llm.embed(jnp.asarray(prompt), jnp.float32),
                         model.embed_codes(jnp.asarray(codes[:, :-1]), jnp.float32)], axis=1)
    return model.gen_head(_hidden(model, x, compute)[:, prompt.shape[1] - 1 :])


def answer_logits(
    model: JanusPro, prompt: np.ndarray, pictures: jax.Array | None, answer: np.ndarray,
    compute: ComputeConfig = COMPUTE,
) -> jax.Array:
    """Scores of an answer's tokens behind a prompt with pictures: int [S] and [N] to float32 [N, V]."""
    pictures = None if pictures is None else pictures[None]
    x = jnp.concatenate([model.embed_conversation(jnp.asarray(prompt)[None], pictures, compute),
                         model.llm.embed(jnp.asarray(answer[:-1])[None], jnp.float32)], axis=1)
    return model.llm.logits(_hidden(model, x, compute)[0, len(prompt) - 1 :])


def _hidden(model: JanusPro, x: jax.Array, compute: ComputeConfig) -> jax.Array:
    return model.hidden(x, causal_tokens(jnp.ones(x.shape[:2], bool)), compute)
