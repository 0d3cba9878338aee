"""Programs that keep what they computed, and take their random numbers from a case instead of drawing them."""

import dataclasses
from typing import Any

import jax
import numpy as np

from srum_jax.families.bagel.flow_sampling import LatentLayout, sample_latents
from srum_jax.families.bagel.image_codec import decode_latents, encode_images
from srum_jax.families.bagel.prefill import prefill_latents, prefill_patches, prefill_text
from srum_jax.families.bagel.programs import Programs
from srum_jax.inference.context import Context
from srum_jax.inference.settings import FlowSampler, TextSampler
from srum_jax.inference.text_decoding import DecodedText, decode_text


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


class RecordedPrograms(Programs):
    """Records the first row of everything. Images are encoded with `posterior_noise`, sampling starts at `noise`."""

    def __init__(self, *arguments: Any):
        """As `Programs`."""
        super().__init__(*arguments)
        compute = self.compute
        self.operations: list[Operation] = []
        self.posterior_noise: np.ndarray | None = None  # [1, h, w, z]
        self.noise: np.ndarray | None = None  # [G, P]
        self.trace: list[dict[str, jax.Array]] = []
        self._pixels: np.ndarray | None = None
        self._texts = self.compile(lambda *a: prefill_text(*a, compute))
        self._patches = self.compile(lambda *a: prefill_patches(*a, compute))
        self._latents = self.compile(lambda *a: prefill_latents(*a, compute))
        self._sampled = self.compile(lambda *a: sample_latents(*a, compute, trace=True), static_argnums=4)
        self._encoded = self.compile(lambda model, *a: encode_images(model.vae, *a, model.config))
        self._decoded = self.compile(lambda model, *a: decode_latents(model.vae, *a, model.config),
                                     static_argnums=(2, 3))
        self._written = self.compile(lambda *a: decode_text(*a, compute, with_logits=True), static_argnums=4)

    def prefill_text(self, context: Context, token_ids: np.ndarray, num_tokens: np.ndarray) -> Context:
        """Records the texts."""
        after, hidden = self.run(self._texts, context, token_ids, num_tokens)
        count = num_tokens[0]
        self._record("text", context, after, hidden[0, :count], token_ids[0, :count], [], [])
        return after

    def prefill_patches(
        self, context: Context, patches: np.ndarray, position_ids: np.ndarray, num_patches: np.ndarray
    ) -> Context:
        """Records the image."""
        after, hidden = self.run(self._patches, context, patches, position_ids, num_patches)
        count = num_patches[0]
        order = between_markers(count)
        self._record("vit", context, after, hidden[0, order], self._markers(), position_ids[0, :count],
                     patches[0, :count])
        return after

    def prefill_latents(
        self, context: Context, latent: np.ndarray, position_ids: np.ndarray, num_latents: np.ndarray
    ) -> Context:
        """Records the image."""
        after, hidden = self.run(self._latents, context, latent, position_ids, num_latents)
        count = num_latents[0]
        both = np.concatenate([hidden.und[0], hidden.gen[0]])
        self._record("vae", context, after, both[between_markers(count)], self._markers(), position_ids[0, :count],
                     np.moveaxis(self._pixels, -1, 1))
        return after

    def encode_images(self, images: np.ndarray, keys: jax.Array) -> jax.Array:
        """Uses the case's posterior noise."""
        self._pixels = images
        return self.run(self._encoded, images, self.posterior_noise)

    def sample_latents(
        self, contexts: list[Context], keys: jax.Array, layout: LatentLayout, sampler: FlowSampler
    ) -> jax.Array:
        """Uses the case's initial noise in every row."""
        rows, width = layout.position_ids.shape
        noise = np.zeros((rows, width, self.noise.shape[-1]), np.float32)
        noise[:, : len(self.noise)] = self.noise
        latent, self.trace = self.run(self._sampled, contexts, noise, layout, sampler)
        return latent

    def decode_pixels(self, latent: jax.Array, rows: int, columns: int) -> jax.Array:
        """Pixels before they are clipped, float32 [N, H, W, 3]."""
        return self.run(self._decoded, latent, rows, columns)

    def decode_text(self, context: Context, keys: jax.Array, active: np.ndarray, sampler: TextSampler) -> DecodedText:
        """Keeps the logits."""
        return self.run(self._written, context, keys, active, sampler)

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
