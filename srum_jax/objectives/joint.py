"""Both directions in one step: pictures are learnt by one objective, texts by another.

    L = generation_coefficient L_generation + understanding_coefficient L_understanding

Each is a mean over its own valid units, so that the many tokens of a picture do not drown the few of a text; a
direction without valid units adds exactly 0.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores
from srum_jax.objectives.weighted_sum import WeightedSum

if TYPE_CHECKING:  # it calls these functions
    from srum_jax.objectives.config import Joint


def totals(settings: "Joint", masks: TokenMasks, columns: Columns) -> dict[str, Any]:
    """Those of both parts by name."""
    return {name: part.totals(*_side(name, masks, columns)) for name, part in _parts(settings)}


def share_of_loss(
    settings: "Joint", scores: TokenScores, masks: TokenMasks, columns: Columns, totals: dict[str, Any]
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """See `Objective.__call__`."""
    loss, logged = jnp.zeros((), jnp.float32), {}
    for name, part in _parts(settings):
        share, sums = part(scores, *_side(name, masks, columns), totals[name])
        loss += getattr(settings, f"{name}_coefficient") * share
        logged |= sums
    return loss, logged


def _parts(settings: "Joint") -> list[tuple[str, Any]]:
    return [("generation", settings.generation), ("understanding", settings.understanding)]


def _side(name: str, masks: TokenMasks, columns: Columns) -> tuple[TokenMasks, Columns]:
    """What a part gets to see."""
    if name == "generation":
        return dataclasses.replace(masks, text=jnp.zeros_like(masks.text)), Columns(columns.image, {})
    return dataclasses.replace(masks, image=jnp.zeros_like(masks.image)), Columns({}, columns.text)
