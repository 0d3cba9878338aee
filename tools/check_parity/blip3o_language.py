"""Recomputes `golden_llm_text` and `golden_llm_image`: states, logits, positions, and text decoded with a cache."""

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.inference.cached_decoder import read, text_continuation
from srum_jax.inference.context import empty_context
from srum_jax.models.blip3o.model import Blip3o
from srum_jax.models.blip3o.patches import Pictures, arrange
from srum_jax.models.blip3o.positions import mrope_angles, understanding_positions
from srum_jax.models.layers.token_stream import causal_tokens
from tools.check_parity.blip3o_case import compared
from tools.check_parity.blip3o_vision import recorded_pictures
from tools.check_parity.model_case import COMPUTE, Case, greedy
from tools.check_parity.result import GroupResult, Unchecked
from tools.check_parity.tensors import Tensors

_GIVEN = ("attention_mask", "input_ids")


def check_text(case: Case) -> list[GroupResult | Unchecked]:
    """Conversations without pictures."""
    return _check(case, "llm_text", None, [])


def check_image(case: Case) -> list[GroupResult | Unchecked]:
    """Conversations about the pictures of `golden_vision`."""
    pictures, merge = recorded_pictures(case), case.config.vision.merge_size
    grids = [(rows // merge, columns // merge) for _, (rows, columns) in pictures]
    return _check(case, "llm_image", arrange(pictures, case.config.vision), grids)


def _check(
    case: Case, name: str, pictures: Pictures | None, grids: list[tuple[int, int]]
) -> list[GroupResult | Unchecked]:
    expected, model = case.tensors[name], case.model
    ids, mask = expected["input_ids"].astype(np.int32), expected["attention_mask"].astype(bool)
    position, following = understanding_positions(ids, mask, grids, case.config.special_tokens.image_pad)
    states: list[np.ndarray] = []
    embedded = model.embed_conversation(jnp.asarray(ids), pictures, COMPUTE)
    last = model.hidden(
        embedded, jnp.asarray(mask), jnp.asarray(position), COMPUTE, lambda _, x: states.append(np.asarray(x))
    )
    states[-1] = np.asarray(last)  # the reference keeps that of the last layer after the final norm alone
    found = {
        "position_ids": position,
        "rope_deltas": following[:, None] - ids.shape[1],
        "logits": model.llm.logits(last),
        **{f"hidden_{number}": x for number, x in enumerate(states)},
        **_decoded(model, embedded, mask, position, following, expected["gen_tokens"].shape[1]),
    }
    padded = {key for key in expected if key == "logits" or key.startswith("hidden_")}
    shown = {key: np.asarray(value)[mask] if key in padded else value for key, value in found.items()}
    return compared(name, {key: value[mask] if key in padded else value for key, value in expected.items()}, shown,
                    _GIVEN)


def _decoded(
    model: Blip3o, embedded: jax.Array, mask: np.ndarray, position: np.ndarray, following: np.ndarray, count: int
) -> Tensors:
    """Greedy text behind left-padded prompts."""
    rows, width = mask.shape
    context = empty_context(model.config.llm, rows, width + count, embedded.dtype)
    angles = mrope_angles(jnp.asarray(position), model.config.llm)
    hidden, written = read(model.llm, embedded, causal_tokens(jnp.asarray(mask)), angles, context, COMPUTE)
    context = context.append(written, jnp.asarray(mask), jnp.asarray(following))
    step = jax.jit(text_continuation(model.llm, model.angles, COMPUTE))
    tokens, logits = greedy(step, model.llm.logits(hidden[:, -1]), context, count)
    return {"gen_tokens": tokens, "gen_logits": logits}
