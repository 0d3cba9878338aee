"""What a train step ought to cost, from a full row of the recipe's data, and what its attention kernels do cost.

The row is made by the pipeline's own packing: as many samples as the recipe packs, each with a prompt of a given length
and an image that fills the canvas, none of them dropped.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from srum_jax.data.example import stack_rows
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.packing import RowBuilder
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.rows import row_capacity
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, PackedSample, TextItem, pack_sample
from srum_jax.families.bagel.step_flops import PackCounts, count_pack, step_flops
from srum_jax.families.costs import scaled
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.attention_mask import allowed
from srum_jax.models.layers.token_stream import TokenStream

# Matrix products over all visited (query, key) pairs: scores and values forward; backward the scores again, then the
# gradients of the probabilities and of queries, or of the probabilities, keys and values.
_KERNEL_PRODUCTS = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}


@dataclasses.dataclass(frozen=True)
class RowStatistics:
    """Of one full row; a `RowWork`."""

    config: BagelConfig
    counts: PackCounts
    slots: int  # of its buffers, text, ViT and latent together
    visited_blocks: int  # by the attention kernel on the chip that visits most; 0 for other routes
    block: int

    @property
    def tokens(self) -> int:
        """See `RowWork`."""
        return self.counts.und_tokens + self.counts.gen_tokens

    @property
    def padding(self) -> float:
        """See `RowWork`."""
        return 1 - self.tokens / self.slots

    def step_flops(self, trained: Mapping[str, tuple[int, ...]], rows: int) -> float:
        """See `RowWork`."""
        return step_flops(self.config, scaled(self.counts, rows), trained)

    def kernel_flops(self, name: str, operands: Sequence[tuple[int, ...]]) -> float | None:
        """See `RowWork`; None where the kernel's name or its operands are not known."""
        products = next((count for kernel, count in _KERNEL_PRODUCTS.items() if name.startswith(kernel)), None)
        head_dim = self.config.llm.head_dim
        heads = next((shape[0] for shape in operands if len(shape) == 3 and shape[2] == head_dim), None)
        if products is None or heads is None:
            return None
        return products * 2.0 * heads * self.visited_blocks * self.block**2 * head_dim


def full_row(rows: BagelRows, config: BagelConfig, prompt_tokens: int) -> PackedBatch:
    """One row [1, ...] of NumPy arrays, full of pictures to be drawn; what is kept for texts to be read stays empty.

    Raises:
      CapacityError: the prompts do not fit into a row, or no picture does.
    """
    width, height = rows.transform.target_size(rows.image_width, rows.image_height)
    grid = (height // config.latent_stride, width // config.latent_stride)
    plan = (
        TextItem(ids=[0] * prompt_tokens),
        LatentItem(pixels=np.zeros((height, width, 3), np.uint8), grid=grid, loss=True,
                   position_ids=position_ids(*grid, config.max_latent_size, config.interpolate_pos)),
    )
    sample: PackedSample = pack_sample(plan, config.special_tokens, Dropout(), np.random.default_rng(0))
    counted = dataclasses.replace(rows, latents="images")  # tokens are the same, whatever the latents come from
    builder = RowBuilder(row_capacity(counted, config))
    drawings = min(rows.samples_per_row, counted.latent_capacity // (grid[0] * grid[1]))
    for _ in range(max(drawings, 1)):
        builder.add(sample)
    return stack_rows([builder.finish()])


def row_statistics(config: BagelConfig, row: PackedBatch, block: int, seq: int = 1) -> RowStatistics:
    """Counts a row.

    Args:
      config: of the model.
      row: see `full_row`.
      block: tokens per block of the attention kernel; 0 for other routes.
      seq: parts into which the queries of a row are split.
    """
    slots = sum(stream.sample.shape[1] for stream in (row.text, row.vit, row.latent))
    return RowStatistics(config, count_pack(row), slots, visited_blocks(row, block, seq) if block else 0, block)


def visited_blocks(row: PackedBatch, block: int, seq: int) -> int:
    """Blocks with an allowed pair, of the part of the queries that has most; tokens lie as in `splash_attention`."""
    und, gen = (_joined(streams) for streams in ([row.text, row.vit], [row.latent]))
    key = _padded(_joined([_padded(und, block), gen]), block)
    query = _padded(key, block * seq)
    mask = allowed(_only_row(query), _only_row(key))
    blocks = mask.reshape(seq, -1, block, mask.shape[1] // block, block).any(axis=(2, 4))
    return int(blocks.sum(axis=(1, 2)).max())


def _joined(streams: list[TokenStream]) -> TokenStream:
    return jax.tree.map(lambda *fields: np.concatenate(fields, axis=-1), *streams)


def _padded(stream: TokenStream, multiple: int) -> TokenStream:
    return jax.tree.map(lambda x: np.pad(x, ((0, 0), (0, -x.shape[1] % multiple)), constant_values=-1), stream)


def _only_row(stream: TokenStream) -> TokenStream:
    return jax.tree.map(lambda x: x[0], stream)
