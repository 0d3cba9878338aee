"""Model FLOPs of a step, by formula.

Counted are the matrix products that a step of this model cannot do without: forward and backward (3 x 2 x tokens x
weights, or 2 x 2 for weights that are not trained) of the tokens that are real, and attention over the pairs that the
mask allows. Padding, recomputation and the autoencoder are not counted.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.low_rank import FACTOR_A, FACTOR_B


@dataclasses.dataclass(frozen=True)
class PackCounts:
    """What a batch holds, apart from padding."""

    und_tokens: int
    gen_tokens: int
    vit_tokens: int
    text_predictions: int
    pairs: int  # (query, key) pairs that the mask allows


def count_pack(batch: PackedBatch) -> PackCounts:
    """Counts the tokens and pairs of a batch on the host; NumPy arrays."""
    streams = [batch.text, batch.vit, batch.latent]
    sample, split, order, full, noise = (
        np.concatenate([np.asarray(getattr(s, name)) for s in streams], axis=1)
        for name in ("sample", "split", "order", "full", "noise")
    )
    pairs = sum(_row_pairs(*row) for row in zip(sample, split, order, full, noise, strict=True))
    text, vit, latent = (int(np.sum(np.asarray(s.sample) >= 0)) for s in streams)
    return PackCounts(text + vit, latent, vit, int(np.sum(np.asarray(batch.ce_weights) > 0)), pairs)


def _row_pairs(sample, split, order, full, noise) -> int:
    real = sample >= 0
    sample, split, order, full, noise = (x[real] for x in (sample, split, order, full, noise))
    pairs = 0
    for s in np.unique(sample):
        own = sample == s
        numbers, first, lengths = np.unique(split[own], return_index=True, return_counts=True)
        start = np.array([order[own][split[own] == number].min() for number in numbers])
        visible = 0
        for i in np.argsort(start):
            length = int(lengths[i])
            inside = length**2 if full[own][first[i]] else length * (length + 1) // 2
            pairs += inside + length * visible
            if not noise[own][first[i]]:
                visible += length
    return pairs


def step_flops(
    config: BagelConfig, counts: PackCounts, trained: Mapping[str, tuple[int, ...]] | None = None
) -> float:
    """Model FLOPs of one step over what was counted.

    Args:
      config: of the model.
      counts: of the batch.
      trained: shapes of the trained parameters by name, LoRA's factors among them; None for all but these. Other
        weights of the language model and of the latent projections have no gradient, only their inputs have. Strictly,
        text before an image needs none either where nothing of the understanding expert is trained; it has some
        hundredths of the tokens, and is counted.
    """
    llm = config.llm
    kv_width = llm.num_kv_heads * llm.head_dim
    layer = 2 * llm.hidden_size * (llm.hidden_size + kv_width) + 3 * llm.hidden_size * llm.intermediate_size
    tokens = (counts.und_tokens + counts.gen_tokens) * llm.num_layers * layer
    latent = counts.gen_tokens * 2 * config.latent_values * llm.hidden_size
    text = counts.text_predictions * llm.hidden_size * llm.vocab_size
    attention = 2 * counts.pairs * llm.hidden_size * llm.num_layers
    vision = 0
    if config.vit is not None:
        v = config.vit
        vision = counts.vit_tokens * v.num_layers * (4 * v.hidden_size**2 + 2 * v.hidden_size * v.intermediate_size)
    everything = 6.0 * (tokens + latent + text + attention + vision)
    return everything if trained is None else everything + _change(tokens + latent + text, counts, trained)


def _change(all_weights: float, counts: PackCounts, trained: Mapping[str, tuple[int, ...]]) -> float:
    """What weights without gradient save, and what low-rank factors cost."""
    tokens_of = {"llm.layers.und.": counts.und_tokens, "llm.layers.gen.": counts.gen_tokens,
                 "vae2llm.": counts.gen_tokens, "llm2vae.": counts.gen_tokens,
                 "llm.lm_head.": counts.text_predictions}
    kernels = factors = 0
    for name, shape in trained.items():
        tokens = next((count for prefix, count in tokens_of.items() if name.startswith(prefix)), 0)
        if name.endswith(".kernel"):
            kernels += tokens * math.prod(shape)
        elif name.endswith((FACTOR_A, FACTOR_B)):
            factors += tokens * math.prod(shape)
    return 6.0 * factors - 2.0 * (all_weights - kernels)
