"""Model FLOPs of a step, by formula.

Counted are the matrix products that a step of this model cannot do without, over tokens that are real: forward for all
(2 x tokens x weights), the gradient of inputs but of the tower, whose inputs are pictures, and that of weights that are
trained. Padding, recomputation and the picture tokenizer are not counted; it can do its work once, before training.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np

from srum_jax.families.janus_pro.batch import JanusBatch
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.layers.low_rank import FACTOR_A, FACTOR_B


@dataclasses.dataclass(frozen=True)
class SlotCounts:
    """What a batch holds, apart from padding."""

    pictures: int  # that are drawn
    readings: int  # pictures that are read
    tokens: int  # of the language model
    pairs: int  # (query, key) pairs of these
    predictions: int  # of text


def count_slots(batch: JanusBatch, num_codes: int) -> SlotCounts:
    """Counts the tokens and pairs of a batch on the host; NumPy arrays."""
    drawn = batch.length[batch.sample >= 0].astype(np.int64) + num_codes - 1  # the last code is no input
    read = batch.readings.length[batch.readings.sample >= 0].astype(np.int64)
    every = np.concatenate([drawn, read])
    return SlotCounts(
        pictures=len(drawn), readings=len(read), tokens=int(every.sum()), pairs=int((every * (every + 1) // 2).sum()),
        predictions=int(np.sum(batch.readings.answer_weights > 0)),
    )


def step_flops(config: JanusConfig, counts: SlotCounts, trained: Mapping[str, tuple[int, ...]] | None = None) -> float:
    """Model FLOPs of one step over what was counted.

    Args:
      config: of the model.
      counts: of the batch.
      trained: shapes of the trained parameters by name, LoRA's factors among them; None for what is trained by default.
    """
    weights = _weights(config)
    if trained is None:
        trained = {name: shape for name, shape in weights.items() if not name.startswith("vision.")}
    flops = 0.0
    for name, shape in weights.items():
        passes = 1 + (not name.startswith("vision.")) + (name in trained)
        flops += 2.0 * passes * math.prod(shape) * _rows(name, config, counts)
    for name, shape in trained.items():
        if name.endswith((FACTOR_A, FACTOR_B)):
            flops += 6.0 * math.prod(shape) * _rows(name, config, counts)
    llm, tower = config.llm, config.vision
    attention = 12.0 * counts.pairs * llm.num_heads * llm.head_dim * llm.num_layers
    tower_passes = 3 if any(name.startswith("vision.") for name in trained) else 1
    seen = 4.0 * counts.readings * tower.num_tokens**2 * tower.hidden_size * tower.num_layers
    return flops + attention + tower_passes * seen


def _rows(name: str, config: JanusConfig, counts: SlotCounts) -> int:
    """Rows that a matrix is multiplied with."""
    codes = config.vq.num_codes
    rows = {"llm.layers.": counts.tokens, "llm.lm_head.": counts.predictions, "gen_head.": counts.pictures * codes,
            "gen_aligner.": counts.pictures * (codes - 1), "aligner.": counts.readings * config.vision.num_tokens,
            "vision.": counts.readings * config.vision.num_tokens}
    return next(count for start, count in rows.items() if name.startswith(start))


@functools.cache
def _weights(config: JanusConfig) -> dict[str, tuple[int, ...]]:
    """Matrices by name, but for those of the picture tokenizer."""
    return {name: shape for name, shape in JANUS_PRO.shapes(config, {"vision"}).items() if name.endswith(".kernel")}
