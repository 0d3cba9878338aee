"""Model FLOPs of a step, by formula.

Counted are the matrix products that a step of this model cannot do without, over tokens that are real: forward for all
(2 x tokens x weights), the gradient of inputs where something trained lies before (the diffusion transformer, and the
queries' tokens in the language model), and that of weights that are trained. Padding, recomputation and both towers
that see pictures are not counted; the one for features can do its work once, before training.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np

from srum_jax.families.blip3o.batch import Blip3oBatch
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.layers.low_rank import FACTOR_A, FACTOR_B

_ONE_A_PICTURE = ("dit.layers.modulation", "dit.time_fc", "dit.pooled", "dit.out_scale")
_OF_CONDITION = ("dit.layers.cross_key", "dit.layers.cross_value", "dit.condition_fc")


@dataclasses.dataclass(frozen=True)
class SlotCounts:
    """What a batch holds, apart from padding."""

    pictures: int  # that are drawn
    text: int  # tokens of the language model, queries among them
    pairs: int  # (query, key) pairs of these
    query_pairs: int  # of them, those whose query is an image query
    predictions: int  # of text


def count_slots(batch: Blip3oBatch, num_queries: int) -> SlotCounts:
    """Counts the tokens and pairs of a batch on the host; NumPy arrays."""
    drawn = (batch.first_query + num_queries)[batch.sample >= 0].astype(np.int64)
    read = batch.readings.length[batch.readings.sample >= 0].astype(np.int64)
    every = np.concatenate([drawn, read])
    return SlotCounts(
        pictures=len(drawn), text=int(every.sum()), pairs=int((every * (every + 1) // 2).sum()),
        query_pairs=int((num_queries * (drawn - num_queries) + num_queries * (num_queries + 1) // 2).sum()),
        predictions=int(np.sum(batch.readings.answer_weights > 0)),
    )


def step_flops(config: Blip3oConfig, counts: SlotCounts, trained: Mapping[str, tuple[int, ...]] | None = None) -> float:
    """Model FLOPs of one step over what was counted.

    Args:
      config: of the model.
      counts: of the batch.
      trained: shapes of the trained parameters by name, LoRA's factors among them; None for what is trained by default.
    """
    weights = _weights(config)
    if trained is None:
        trained = weights | {"queries.vectors": ()}
    passes_language_model = any(name.startswith("queries.") for name in trained)
    queries = counts.pictures * config.num_queries
    flops = 0.0
    for name, shape in weights.items():
        tokens = _tokens(name, config, counts)
        inputs = tokens if name.startswith("dit.") else queries if passes_language_model and "layers" in name else 0
        flops += 2.0 * math.prod(shape) * (tokens + inputs + (tokens if name in trained and "dit." in name else 0))
    for name, shape in trained.items():
        if name.endswith((FACTOR_A, FACTOR_B)):
            flops += 6.0 * math.prod(shape) * _tokens(name, config, counts)
    cells = config.dit.grid**2
    pairs = counts.pictures * cells * (cells + config.num_queries)
    attention = 12.0 * pairs * config.dit.width * config.dit.num_layers
    width = config.llm.num_heads * config.llm.head_dim * config.llm.num_layers
    language = counts.pairs + (2 * counts.query_pairs if passes_language_model else 0)
    return flops + attention + 4.0 * language * width


def _tokens(name: str, config: Blip3oConfig, counts: SlotCounts) -> int:
    """Rows that a matrix is multiplied with."""
    if name.startswith("llm."):
        return counts.text if name.startswith("llm.layers.") else counts.predictions
    if name.startswith(_ONE_A_PICTURE):
        return counts.pictures
    return counts.pictures * (config.num_queries if name.startswith(_OF_CONDITION) else config.dit.grid**2)


@functools.cache
def _weights(config: Blip3oConfig) -> dict[str, tuple[int, ...]]:
    """Matrices of the language model and the diffusion transformer by name; the embedding where it is the head too."""
    shapes = BLIP3O.shapes(config, ())
    head = "llm.embed.embedding" if config.llm.tied else "llm.lm_head.kernel"
    return {name: shape for name, shape in shapes.items() if name.endswith(".kernel") or name == head}
