"""From a batch of slots to token scores: features of pictures, the flow path, states at the queries, velocity errors.

B rows · S slots for drawing · T tokens of one · G features along a side · C their width · R slots for reading
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from srum_jax.families.blip3o.batch import Blip3oBatch
from srum_jax.families.slots import flat, joined, slot_masks
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.eva import EvaTower
from srum_jax.models.blip3o.flow import TIME_SCALE, drawn_sigma
from srum_jax.models.blip3o.model import Blip3o
from srum_jax.models.blip3o.patches import normalised
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS, constrain
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.objectives.flow_path import interpolate, velocity_error
from srum_jax.objectives.token_scores import TokenMasks, TokenScores


@dataclasses.dataclass(frozen=True)
class Blip3oForward:
    """How batches of BLIP3o are scored; see `families.family.Forward`. Image tokens are features, slot by slot."""

    image_error: ClassVar[str] = "flow"

    config: Blip3oConfig
    compute: ComputeConfig

    def layout(self, batch: Blip3oBatch) -> Blip3oBatch:
        """Rows over data and fsdp; a PartitionSpec for each array."""
        return jax.tree.map(lambda _: PartitionSpec(ROWS), batch)

    def masks(self, batch: Blip3oBatch) -> TokenMasks:
        """Every feature of a slot that is taken, and every token of an answer."""
        return slot_masks(batch, self._real(batch), "features", self.config.dit.grid**2)

    def draws(self, key: jax.Array, batch: Blip3oBatch) -> jax.Array:
        """The noise of one step, float32 [B, S G G, C], the same on any mesh; times lie in the batch."""
        dit = self.config.dit
        return jax.random.normal(key, (batch.ids.shape[0], batch.ids.shape[1] * dit.grid**2, dit.channels))

    def scores(self, model: Blip3o, batch: Blip3oBatch, draws: jax.Array, *, tap: Tap = no_tap) -> TokenScores:
        """Squared velocity errors of features, log probabilities of answers.

        Args:
          model: with its EVA-CLIP tower, unless the batch brings features; with its vision tower where rows have slots
            for reading.
          batch: one batch, or one of the micro-batches of a step.
          draws: of this batch.
          tap: see `Blip3o.query_states`; also called with "condition" and "timestep" (what the diffusion transformer is
            given, slots joined), what that calls it with, "dit_" before its names, and with "features",
            "noisy_features" and "velocity" [B, S G G, C].
        """
        if batch.features is None:
            features = encode(model.eva, batch.pixels, self.compute)
        else:
            features = batch.features.astype(jnp.float32)
        features = jax.lax.stop_gradient(features.reshape(draws.shape))
        return self.scores_of_features(model, batch, draws, features, tap=tap)

    def scores_of_features(
        self, model: Blip3o, batch: Blip3oBatch, draws: jax.Array, features: jax.Array,
        reference: jax.Array | None = None, *, tap: Tap = no_tap,
    ) -> TokenScores:
        """`scores` of pictures whose features are known; the model needs no EVA-CLIP tower.

        Args:
          features: float32 [B, S G G, C].
          reference: the same of pictures that the velocity is compared with too; None for none.
          model, batch, draws, tap: as for `scores`.
        """
        sigma = drawn_sigma(batch.uniform, self.config.timestep_shift)
        time = jnp.repeat(sigma, self.config.dit.grid**2, axis=1)
        noisy = interpolate(features, draws, time)
        velocity = self._velocity(model, batch, noisy, sigma, tap)
        tap("features", features)
        tap("noisy_features", noisy)
        tap("velocity", velocity)
        return TokenScores(
            image_error=velocity_error(velocity, features, draws),
            reference_error=None if reference is None else velocity_error(velocity, reference, draws),
            time=time,
            text_log_prob=self._text_log_prob(model, batch),
        )

    def _velocity(self, model: Blip3o, batch: Blip3oBatch, noisy: jax.Array, sigma: jax.Array, tap: Tap) -> jax.Array:
        """[B, S G G, C] of noisy features at times [B, S]."""
        condition = model.query_states(
            joined(batch.ids), joined(self._real(batch)), joined(batch.first_query), self.compute, tap
        )
        # Before any projection: what sampling without condition is given too.
        condition = condition * joined(batch.conditioned)[:, None, None].astype(condition.dtype)
        timestep, dit = joined(sigma) * TIME_SCALE, self.config.dit
        grids = constrain(noisy.reshape(-1, dit.grid, dit.grid, dit.channels), ROWS)
        tap("condition", condition)
        tap("timestep", timestep)
        inner = no_tap if tap is no_tap else lambda name, value: tap(f"dit_{name}", value)
        return model.dit(grids, timestep, condition, self.compute, inner).reshape(noisy.shape)

    def _text_log_prob(self, model: Blip3o, batch: Blip3oBatch) -> jax.Array:
        """Of each predicted token, float32 [B, R A]."""
        readings = batch.readings
        if not readings.ids.shape[1]:
            return jnp.zeros_like(flat(readings.answer_weights))
        ids, real = joined(readings.ids), joined(readings.real)
        embedded = model.embed_conversation(ids, jax.tree.map(joined, readings.pictures), self.compute)
        hidden = model.hidden(embedded, real, jnp.moveaxis(joined(readings.position), 1, 0), self.compute)
        predicting = jnp.take_along_axis(hidden, joined(readings.answer_index)[..., None], axis=1)
        log_prob = jax.nn.log_softmax(model.llm.logits(predicting))
        found = jnp.take_along_axis(log_prob, joined(readings.answer_ids)[..., None], axis=-1)
        return found.reshape(len(batch.ids), -1)
    def _real(self, batch: Blip3oBatch) -> jax.Array:
        """Bool [B, S, T]: prompts, [IMG] and queries."""
        end = jnp.where(batch.sample >= 0, batch.first_query + self.config.num_queries, 0)
        return jnp.arange(batch.ids.shape[2])[None, None] < end[..., None]


def encode(eva: EvaTower, pixels: jax.Array, compute: ComputeConfig) -> jax.Array:
    """Pooled features of pictures, one slot of all rows after the other to bound memory.

    Args:
      eva: the tower.
      pixels: uint8 [B, S, H, W, 3].
      compute: precision.

    Returns:
      float32 [B, S, G, G, C].
    """

    def one_slot(pixels: jax.Array) -> jax.Array:  # [B, H, W, 3]
        return eva.pooled(eva(constrain(normalised(pixels), ROWS), compute))

    return jnp.moveaxis(jax.lax.map(one_slot, jnp.moveaxis(pixels, 1, 0)), 0, 1)
