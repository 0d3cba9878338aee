"""What the neurons of BAGEL's experts do with a sample. Rows of a batch do not influence each other.

L layers · B rows · T tokens of a chunk · C channels of an MLP · G latent tokens · P values of a token
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.families.bagel.answerer import asked
from srum_jax.families.bagel.cached_decoder import Watch
from srum_jax.families.bagel.conversation import Conversation
from srum_jax.families.bagel.flow_sampling import LatentLayout, flow_velocity
from srum_jax.families.bagel.generator import BagelGenerator
from srum_jax.families.bagel.prefill import Chunk, patch_chunk, text_chunk
from srum_jax.families.bagel.programs import PREFILL_PATCHES, PREFILL_TEXT, SAMPLE_LATENTS
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.families.bagel.scoring import UNGUIDED, noised
from srum_jax.inference.batch_shapes import filled
from srum_jax.inference.context import Context
from srum_jax.inference.opened import Opened
from srum_jax.inference.programs import Program
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import ImageRequest, Question, each_read
from srum_jax.inference.settings import TextSampler
from srum_jax.models.bagel.decoder import Hidden, MixtureLayer
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig

TIMES = 0.25, 0.5, 0.75, 0.95  # at which noise is added to a picture for the generation expert (spec, section 11.2)
# The longer context; sums over tokens, float32 [L, B, C]; and how many tokens, int32 [B].
Watched = tuple[Context, jax.Array, jax.Array]


def _sums(real: jax.Array, gated: bool, expert: str = "und") -> Watch:
    """Sums over the real tokens, bool [B, T], of the values of the neurons of the expert that they pass through."""

    def watch(layer: MixtureLayer, x: Hidden) -> jax.Array:
        gate, up = getattr(layer, expert).gate_and_up(getattr(x, expert))
        values = jnp.abs(gate * up) if gated else gate
        return jnp.sum(jnp.where(real[..., None], values.astype(jnp.float32), 0.0), axis=1)

    return watch


def _added(model: Bagel, context: Context, compute: ComputeConfig, chunk: Chunk, gated: bool) -> Watched:
    real = chunk.tokens.real[:, : chunk.inputs.und.shape[1]]
    context, _, sums = chunk.added(model, context, compute, _sums(real, gated))
    return context, sums, jnp.sum(real, axis=1, dtype=jnp.int32)


def _watch_text(model: Bagel, compute: ComputeConfig, context: Context, ids: jax.Array, num_tokens: jax.Array,
                gated: bool) -> Watched:
    return _added(model, context, compute, text_chunk(model, compute, context, ids, num_tokens), gated)


def _watch_patches(model: Bagel, compute: ComputeConfig, context: Context, patches: jax.Array,
                   position_ids: jax.Array, num_patches: jax.Array, gated: bool) -> Watched:
    chunk = patch_chunk(model, compute, context, patches, position_ids, num_patches)
    return _added(model, context, compute, chunk, gated)


def _watch_latents(model: Bagel, compute: ComputeConfig, context: Context, latent: jax.Array, keys: jax.Array,
                   layout: LatentLayout, gated: bool) -> jax.Array:
    velocity = flow_velocity(model, [context], layout, UNGUIDED, compute, _sums(layout.real, gated, "gen"))

    def one_time(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        number, t = inputs  # [], []
        times = jnp.broadcast_to(t, latent.shape[:1])
        return velocity(noised(model, latent, keys, number, times, layout)[0], times)[1]["watched"]

    by_time = jax.lax.map(one_time, (jnp.arange(len(TIMES)), jnp.array(TIMES, jnp.float32)))
    return jnp.mean(by_time, axis=0) / layout.num_tokens[None, :, None]


# context, latent [B, G, P], keys [B], LatentLayout, gated -> float32 [L, B, C], means over times and latent tokens
_WATCH_LATENTS = Program(_watch_latents, rows=(1, 2, 3), static=(4,))
# As the programs of the same arguments that only add a chunk; and whether values are gated.
_WATCHING = {
    PREFILL_TEXT: Program(_watch_text, rows=(1, 2), donated=(0,), static=(3,)),
    PREFILL_PATCHES: Program(_watch_patches, rows=(1, 2, 3), donated=(0,), static=(4,)),
}


class _Watched(Conversation):
    """A conversation, the sums over its und tokens float32 [L, B, C], and how many they are int32 [B]."""

    def __init__(self, *arguments: Any, gated: bool, **named: Any):
        super().__init__(*arguments, **named)
        self._gated, self.sums, self.tokens = gated, 0.0, 0

    def _prefilled(self, program: Program, *chunk: np.ndarray) -> Context:
        context, sums, tokens = self.programs.call(_WATCHING[program], self.everything, *chunk, self._gated)
        self.sums, self.tokens = self.sums + sums, self.tokens + tokens
        return context

    @property
    def means(self) -> jax.Array:
        """Over the und tokens so far, float32 [L, B, C]."""
        return self.sums / self.tokens[None, :, None]


class BagelNeurons:
    """See `Neurons`: those of the understanding expert, which sees tokens of both tasks; or of both experts."""

    def __init__(self, opened: Opened, sampler: FlowSampler | None = None):
        """Puts a loaded model to work; without its vision tower it is asked without images.

        Args:
          opened: the checkpoint.
          sampler: of the pictures that the generation expert is watched on; None: only the other one is watched.
        """
        self.opened, self.programs, self._sampler = opened, opened.programs, sampler
        self._generator = BagelGenerator(opened, sampler or FlowSampler())
        self._reader = self._generator.reader

    def of_all_experts(self, sampler: FlowSampler) -> "BagelNeurons":
        """See `Neurons`."""
        return BagelNeurons(self.opened, sampler)

    @property
    def shape(self) -> tuple[int, int]:
        """See `Neurons`."""
        llm = self.programs.config.llm
        return llm.num_layers, llm.intermediate_size * (1 if self._sampler is None else 2)

    def answering(self, questions: Sequence[Question], answers: Sequence[str], *, gated: bool = False) -> np.ndarray:
        """See `Neurons`."""
        if not questions:
            return np.zeros((0, *self.shape), np.float32)
        given = [self._reader.answer(text) if text.strip() else None for text in answers]
        rows, _ = filled(list(zip(each_read(self._reader.question, questions), given, strict=True)),
                         self.programs.rows_multiple)
        conversation = asked(self.programs, [question for question, _ in rows], kind=_watching(gated))
        if any(answer is not None for _, answer in rows):
            conversation.add_plan([answer for _, answer in rows])
        nothing = jnp.zeros_like(conversation.means)  # no token passes through the generation expert
        return self._by_sample(conversation.means, nothing, len(questions))

    def drawing(
        self, requests: Sequence[ImageRequest], *, plan: TextSampler | None = None, gated: bool = False
    ) -> np.ndarray:
        """See `Neurons`."""
        if not requests:
            return np.zeros((0, *self.shape), np.float32)
        read, active = filled(each_read(self._reader.image, requests), self.programs.rows_multiple)
        sampler = self._generator.sampler.without_edits()
        conversation, _ = self._generator.image_contexts(read, active, sampler, plan, _watching(gated))
        drawn = None
        if self._sampler is not None:
            latent, layout = self._generator.sample(SAMPLE_LATENTS, conversation, read, sampler)
            keys = random_keys([item.seed for item in read], Use.NOISE)  # folded in: not the noise that it began with
            drawn = self.programs.call(_WATCH_LATENTS, conversation.everything, latent, keys, layout, gated)
        return self._by_sample(conversation.means, drawn, len(requests))

    def _by_sample(self, understanding: jax.Array, generation: jax.Array | None, count: int) -> np.ndarray:
        """[L, B, C] of one or both experts to [count, L, channels]; the rows behind them only fill the batch."""
        experts = [understanding] if self._sampler is None else [understanding, generation]
        return np.moveaxis(self.programs.fetch(jnp.concatenate(experts, axis=2)), 1, 0)[:count]


def _watching(gated: bool) -> Callable[..., _Watched]:
    return functools.partial(_Watched, gated=gated)
