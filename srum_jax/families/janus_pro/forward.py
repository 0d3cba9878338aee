"""From a batch of slots to token scores: codes of pictures, and how likely the model makes them and the answers.

B rows · S slots for drawing · N codes of a picture · R slots for reading · A predicted tokens of one
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from srum_jax.families.janus_pro.batch import JanusBatch
from srum_jax.families.janus_pro.likelihood import answer_log_probs, code_log_probs
from srum_jax.families.slots import flat, joined, slot_masks
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.models.janus_pro.vq import VQ, from_bytes
from srum_jax.models.layers.logical_axes import ROWS, constrain
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.objectives.token_scores import TokenMasks, TokenScores


@dataclasses.dataclass(frozen=True)
class JanusForward:
    """How batches of Janus-Pro are scored; see `families.family.Forward`. Image tokens are codes, slot by slot."""

    image_error: ClassVar[str] = "log_prob"

    config: JanusConfig
    compute: ComputeConfig

    def layout(self, batch: JanusBatch) -> JanusBatch:
        """Rows over data and fsdp; a PartitionSpec for each array."""
        return jax.tree.map(lambda _: PartitionSpec(ROWS), batch)

    def masks(self, batch: JanusBatch) -> TokenMasks:
        """Every code of a slot that is taken, and every token of an answer."""
        return slot_masks(batch, _prompts(batch), "codes", self.config.vq.num_codes)

    def draws(self, key: jax.Array, batch: JanusBatch) -> dict[str, jax.Array]:
        """Nothing here is random."""
        return {}

    def scores(
        self, model: JanusPro, batch: JanusBatch, draws: dict[str, jax.Array], *, tap: Tap = no_tap
    ) -> TokenScores:
        """Minus the log probabilities of codes, and log probabilities of answers.

        Args:
          model: with its picture tokenizer, unless the batch brings codes; with its vision tower where rows have slots
            for reading.
          batch: one batch, or one of the micro-batches of a step.
          draws: empty.
          tap: called with "codes" int32 [B, S, N]; also see `code_log_probs`.
        """
        codes = encode(model.vq, batch.pixels) if batch.codes is None else batch.codes
        tap("codes", codes)
        log_prob = code_log_probs(model, joined(batch.ids), joined(_prompts(batch)), joined(codes), self.compute, tap)
        return TokenScores(
            image_error=-log_prob.reshape(len(batch.ids), -1),
            reference_error=None,
            time=None,
            text_log_prob=self._text_log_prob(model, batch),
        )

    def _text_log_prob(self, model: JanusPro, batch: JanusBatch) -> jax.Array:
        """[B, R A]."""
        readings = batch.readings
        if not readings.answer_ids.size:
            return jnp.zeros(flat(readings.answer_ids).shape, jnp.float32)
        found = answer_log_probs(
            model, joined(readings.ids), joined(readings.real), from_bytes(joined(readings.views))[:, None],
            joined(readings.answer_index), joined(readings.answer_ids), self.compute,
        )
        return found.reshape(len(batch.ids), -1)


def encode(vq: VQ, pixels: jax.Array) -> jax.Array:
    """Codes of pictures, one slot of all rows after the other to bound memory; without gradient.

    Args:
      vq: the picture tokenizer.
      pixels: uint8 [B, S, H, W, 3].

    Returns:
      int32 [B, S, N].
    """
    by_slot = jax.lax.map(lambda slot: vq.encode(constrain(from_bytes(slot), ROWS)), jnp.moveaxis(pixels, 1, 0))
    return jax.lax.stop_gradient(jnp.moveaxis(by_slot, 0, 1))


def _prompts(batch: JanusBatch) -> jax.Array:
    """Bool [B, S, T]: tokens of prompts, which lie at the end of their slots."""
    width = batch.ids.shape[2]
    return jnp.arange(width)[None, None] >= width - batch.length[..., None]
