"""Programs that keep what they computed, and take their random numbers from a case instead of drawing them."""

import dataclasses
from typing import Any

import jax
import numpy as np

from srum_jax.families.bagel.flow_sampling import LatentLayout, sample_latents
from srum_jax.families.bagel.image_codec import decode_latents, encode_images
from srum_jax.families.bagel.prefill import latent_chunk, patch_chunk, text_chunk
from srum_jax.families.bagel.programs import (
    ENCODE_IMAGES,
    PREFILL_LATENTS,
    PREFILL_PATCHES,
    PREFILL_TEXT,
    SAMPLE_LATENTS,
    WRITE_TEXT,
)
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.families.bagel.text_writing import write_text
from srum_jax.inference.context import Context
from srum_jax.inference.programs import Program, Programs
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText


@dataclasses.dataclass(frozen=True)
class Operation:
    """One prefill, as the first row of the batch saw it."""

    kind: str  # "text", "vit" or "vae"
    context: Context  # as it was returned
    length_before: int
    position_before: int
    hidden: np.ndarray  # [tokens, D], in the order of the sequence
    token_ids: np.ndarray  # markers included
    table_rows: np.ndarray  # rows of the position table, for images
    given: np.ndarray  # pixels or patches, for images


# What the programs of a run compute before anything is left out.
_TEXT, _PATCHES, _LATENTS = (
    Program(lambda model, compute, context, *a, chunk=chunk: chunk(model, compute, context, *a).added(
        model, context, compute)[:2])
    for chunk in (text_chunk, patch_chunk, latent_chunk)
)
_WRITTEN = Program(lambda *a: write_text(*a, with_logits=True), static=(3,))
_SAMPLED = Program(lambda model, compute, *a: sample_latents(model, *a, compute, trace=True), static=(3,))
_ENCODED = Program(lambda model, _, *a: encode_images(model.vae, *a, model.config))
_DECODED = Program(lambda model, _, *a: decode_latents(model.vae, *a, model.config), static=(1, 2))


class RecordedPrograms(Programs):
    """Records the first row of everything. Images are encoded with `posterior_noise`, sampling starts at `noise`."""

    def __init__(self, *arguments: Any):
        """As `Programs`."""
        super().__init__(*arguments)
        self.operations: list[Operation] = []
        self.posterior_noise: np.ndarray | None = None  # [1, h, w, z]
        self.noise: np.ndarray | None = None  # [G, P]
        self.trace: list[dict[str, jax.Array]] = []
        self._pixels: np.ndarray | None = None
        self._recorders = {
            PREFILL_TEXT: self._prefill_text, PREFILL_PATCHES: self._prefill_patches,
            PREFILL_LATENTS: self._prefill_latents, ENCODE_IMAGES: self._encode_images,
            SAMPLE_LATENTS: self._sample_latents, WRITE_TEXT: self._write_text,
        }

    def call(self, program: Program, *arguments: Any) -> Any:
        """Computes what the program would, and more, and keeps it."""
        recorder = self._recorders.get(program)
        return super().call(program, *arguments) if recorder is None else recorder(*arguments)

    def decode_pixels(self, latent: jax.Array, rows: int, columns: int) -> jax.Array:
        """Pixels before they are clipped, float32 [N, H, W, 3]."""
        return super().call(_DECODED, latent, rows, columns)

    def _prefill_text(self, context: Context, token_ids: np.ndarray, num_tokens: np.ndarray) -> Context:
        after, hidden = super().call(_TEXT, context, token_ids, num_tokens)
        count = num_tokens[0]
        self._record("text", context, after, hidden.und[0, :count], token_ids[0, :count], [], [])
        return after

    def _prefill_patches(
        self, context: Context, patches: np.ndarray, position_ids: np.ndarray, num_patches: np.ndarray
    ) -> Context:
        after, hidden = super().call(_PATCHES, context, patches, position_ids, num_patches)
        count = num_patches[0]
        order = between_markers(count)
        self._record("vit", context, after, hidden.und[0, order], self._markers(), position_ids[0, :count],
                     patches[0, :count])
        return after

    def _prefill_latents(
        self, context: Context, latent: np.ndarray, position_ids: np.ndarray, num_latents: np.ndarray
    ) -> Context:
        after, hidden = super().call(_LATENTS, context, latent, position_ids, num_latents)
        count = num_latents[0]
        both = np.concatenate([hidden.und[0], hidden.gen[0]])
        self._record("vae", context, after, both[between_markers(count)], self._markers(), position_ids[0, :count],
                     np.moveaxis(self._pixels, -1, 1))
        return after

    def _encode_images(self, images: np.ndarray, keys: jax.Array) -> jax.Array:
        """With the case's posterior noise."""
        self._pixels = images
        return super().call(_ENCODED, images, self.posterior_noise)

    def _sample_latents(
        self, contexts: list[Context], keys: jax.Array, layout: LatentLayout, sampler: FlowSampler
    ) -> jax.Array:
        """From the case's initial noise in every row."""
        rows, width = layout.position_ids.shape
        noise = np.zeros((rows, width, self.noise.shape[-1]), np.float32)
        noise[:, : len(self.noise)] = self.noise
        latent, self.trace = super().call(_SAMPLED, contexts, noise, layout, sampler)
        return latent

    def _write_text(self, context: Context, keys: jax.Array, active: np.ndarray, sampler: TextSampler) -> DecodedText:
        """With the logits."""
        return super().call(_WRITTEN, context, keys, active, sampler)

    def _markers(self) -> np.ndarray:
        special = self.config.special_tokens
        return np.array([special.start_of_image, special.end_of_image])

    def _record(self, kind: str, before: Context, after: Context, hidden, token_ids, table_rows, given) -> None:
        self.operations.append(Operation(
            kind, after, int(before.length[0]), int(before.next_position[0]), np.asarray(hidden),
            np.asarray(token_ids), np.asarray(table_rows), np.asarray(given),
        ))


def between_markers(count: int) -> np.ndarray:
    """Places of start marker, tokens and end marker where both markers come first."""
    return np.array([0, *range(2, 2 + count), 1])
