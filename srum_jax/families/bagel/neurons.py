"""What the neurons of BAGEL's understanding expert do with a sample. Rows of a batch do not influence each other.

L layers · B rows · T tokens of a chunk · C channels of an MLP
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.families.bagel.answerer import asked
from srum_jax.families.bagel.cached_decoder import Watch
from srum_jax.families.bagel.conversation import Conversation
from srum_jax.families.bagel.prefill import Chunk, patch_chunk, text_chunk
from srum_jax.families.bagel.programs import PREFILL_PATCHES, PREFILL_TEXT
from srum_jax.families.bagel.request_reader import ReadQuestion, RequestReader
from srum_jax.inference.batch_shapes import filled
from srum_jax.inference.context import Context
from srum_jax.inference.opened import Opened
from srum_jax.inference.programs import Program, Programs
from srum_jax.inference.requests import ImageRequest, Question, each_read
from srum_jax.models.bagel.decoder import Hidden, MixtureLayer
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig

# The longer context; sums over tokens, float32 [L, B, C]; and how many tokens, int32 [B].
Watched = tuple[Context, jax.Array, jax.Array]


def _sums(real: jax.Array, gated: bool) -> Watch:
    """Sums over the real und tokens, bool [B, T], of the values of the understanding expert's neurons."""

    def watch(layer: MixtureLayer, x: Hidden) -> jax.Array:
        gate, up = layer.und.gate_and_up(x.und)
        values = jnp.abs(gate * up) if gated else gate
        return jnp.sum(jnp.where(real[..., None], values.astype(jnp.float32), 0.0), axis=1)

    return watch


def _added(model: Bagel, context: Context, compute: ComputeConfig, chunk: Chunk, gated: bool) -> Watched:
    real = chunk.tokens.real[:, : chunk.inputs.und.shape[1]]
    context, _, sums = chunk.added(model, context, compute, _sums(real, gated))
    return context, sums, jnp.sum(real, axis=1, dtype=jnp.int32)


def _watch_text(model: Bagel, compute: ComputeConfig, context: Context, ids: jax.Array, num_tokens: jax.Array,
                gated: bool) -> Watched:
    return _added(model, context, compute, text_chunk(model, context, ids, num_tokens, compute), gated)


def _watch_patches(model: Bagel, compute: ComputeConfig, context: Context, patches: jax.Array,
                   position_ids: jax.Array, num_patches: jax.Array, gated: bool) -> Watched:
    chunk = patch_chunk(model, context, patches, position_ids, num_patches, compute)
    return _added(model, context, compute, chunk, gated)


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


class BagelNeurons:
    """See `Neurons`: those of the understanding expert, which sees tokens of both tasks."""

    def __init__(self, opened: Opened):
        """Puts a loaded model to work; without its vision tower it is asked without images."""
        self.programs: Programs = opened.programs
        self.reader = RequestReader(opened, sees=self.programs.model.vit is not None)

    @property
    def shape(self) -> tuple[int, int]:
        """See `Neurons`."""
        llm = self.programs.config.llm
        return llm.num_layers, llm.intermediate_size

    def answering(self, questions: Sequence[Question], answers: Sequence[str], *, gated: bool = False) -> np.ndarray:
        """See `Neurons`."""
        read = each_read(self.reader.question, questions)
        return self._means(read, [self.reader.answer(text) if text.strip() else None for text in answers], gated)

    def drawing(self, requests: Sequence[ImageRequest], *, gated: bool = False) -> np.ndarray:
        """See `Neurons`."""
        read = [ReadQuestion(request.prompt, request.seed, []) for request in each_read(self.reader.image, requests)]
        return self._means(read, [None] * len(read), gated)

    def _means(self, asking: Sequence[ReadQuestion], answers: Sequence[list[int] | None], gated: bool) -> np.ndarray:
        if not asking:
            return np.zeros((0, *self.shape), np.float32)
        rows, _ = filled(list(zip(asking, answers, strict=True)), self.programs.rows_multiple)
        conversation = asked(self.programs, [question for question, _ in rows],
                             kind=functools.partial(_Watched, gated=gated))
        if any(answer is not None for _, answer in rows):
            conversation.add_plan([answer for _, answer in rows])
        means = conversation.sums / conversation.tokens[None, :, None]
        return np.moveaxis(np.asarray(means), 1, 0)[: len(asking)]
