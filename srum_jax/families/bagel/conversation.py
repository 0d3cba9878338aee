"""A batch of inputs in the order in which the model is given them, and the contexts that guidance needs.

Rows go through the same sequence of operations; a row that has nothing to add in one of them is left as it is.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from srum_jax.data.image_transform import to_unit_range
from srum_jax.families.bagel.image_views import LatentView, PatchView
from srum_jax.families.bagel.prefill import NUM_MARKERS
from srum_jax.families.bagel.programs import (
    BEGIN_TEXT,
    EMPTY_CONTEXT,
    ENCODE_IMAGES,
    GROW,
    PREFILL_LATENTS,
    PREFILL_PATCHES,
    PREFILL_TEXT,
    WRITE_ON,
    WRITE_TEXT,
)
from srum_jax.inference.batch_shapes import bucket, fill_rows, same_size
from srum_jax.inference.context import Bookmark, Context
from srum_jax.inference.programs import Program, Programs
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.text_decoding import DecodedText

_TOKENS_AT_ONCE = 8  # of a text that is shown while it is written
_LATENT_BUCKETS = 8  # per octave: fine enough for all sizes that BAGEL was trained on to be exact


class Conversation:
    """Three contexts of the same rows (spec: BAGEL's inference contexts).

    `everything`; the same before the last text, for text guidance; and one that never sees images, for image guidance.
    """

    def __init__(self, programs: Programs, rows: int, capacity: int, image_guidance: bool):
        """Starts empty.

        Args:
          programs: of the model.
          rows: a multiple of `programs.rows_multiple`.
          capacity: slots of every chunk to come but plans, whose length nobody knows yet; see `text_slots` and the
            like.
          image_guidance: whether to keep the context without images.
        """
        capacity = bucket(capacity)  # sums of widths are many; programs are compiled for each capacity
        self.programs, self.rows, self._free = programs, rows, capacity
        self.everything: Context = programs.call(EMPTY_CONTEXT, rows, capacity)
        self._without_images = programs.call(EMPTY_CONTEXT, rows, capacity) if image_guidance else None
        self._before_text: Bookmark = self.everything.bookmark()

    def add_system(self, texts: Sequence[Sequence[int]]) -> None:
        """Adds instructions, token ids of each row without markers; part of every context."""
        self._add_text(texts, also_without_images=True)
        self._before_text = self.everything.bookmark()

    def add_text(self, texts: Sequence[Sequence[int]]) -> None:
        """Adds an input text; text guidance leaves it out if it is the last input."""
        self._before_text = self.everything.bookmark()
        self._add_text(texts, also_without_images=True)

    def add_plan(self, texts: Sequence[Sequence[int]]) -> None:
        """Adds what the model wrote itself, making room for it; only the conditional branch gets it."""
        capacity, missing = self.everything.capacity, text_slots(self.programs, texts) - self._free
        if missing > 0:
            more = bucket(capacity + missing) - capacity
            self.everything = self.programs.call(GROW, self.everything, more)
            self._free += more
        self._add_text(texts, also_without_images=False)

    def add_latents(self, views: Sequence[LatentView | None], keys: jax.Array) -> None:
        """Adds clean latent images; None for rows without one.

        Args:
          views: one per row.
          keys: [B] random keys of the posterior samples.
        """
        latent = encode_views(self.programs, views, keys)
        width = latent.shape[1]
        position_ids = _padded([view.position_ids if view else [] for view in views], width, np.int32)
        counts = np.array([len(view.position_ids) if view else 0 for view in views], np.int32)
        self._take(NUM_MARKERS + width)
        self.everything = self._prefilled(PREFILL_LATENTS, latent, position_ids, counts)
        self._before_text = self.everything.bookmark()

    def add_patches(self, views: Sequence[PatchView | None]) -> None:
        """Adds images to be understood; None for rows without one."""
        counts = np.array([len(view.position_ids) if view else 0 for view in views], np.int32)
        width = bucket(int(counts.max()))
        patches = np.zeros((self.rows, width, self.programs.config.vit.patch_values), np.float32)
        for row in np.flatnonzero(self.programs.own_rows(self.rows) & (counts > 0)):
            patches[row, : counts[row]] = views[row].patches
        position_ids = _padded([view.position_ids if view else [] for view in views], width, np.int32)
        self._take(NUM_MARKERS + width)
        self.everything = self._prefilled(PREFILL_PATCHES, patches, position_ids, counts)
        self._before_text = self.everything.bookmark()

    def write(
        self, keys: jax.Array, active: np.ndarray, sampler: TextSampler,
        on_text: Callable[[DecodedText], None] | None = None,
    ) -> DecodedText:
        """Lets the model continue; the contexts stay as they are.

        Args:
          keys, active, sampler: see `decode_text`.
          on_text: called with what is written so far, on the host, after every few tokens, which are waited for.
        """
        if on_text is None:
            return self.programs.call(WRITE_TEXT, self.everything, keys, active, sampler)
        begun = self.programs.call(BEGIN_TEXT, self.everything, active, sampler)
        for until in range(_TOKENS_AT_ONCE, sampler.max_tokens + _TOKENS_AT_ONCE, _TOKENS_AT_ONCE):
            begun = self.programs.call(WRITE_ON, begun, keys, np.int32(min(until, sampler.max_tokens)), sampler)
            text = jax.tree.map(np.copy, self.programs.fetch(begun.text))  # the next program takes over the arrays
            on_text(text)
            if text.finished.all():
                break
        return begun.text

    def branches(self, count: int) -> list[Context]:
        """The contexts of the first `count` branches of guidance."""
        contexts = [self.everything, self.everything.at(self._before_text)]
        if self._without_images is not None:
            contexts.append(self._without_images)
        return contexts[:count]

    def _add_text(self, texts: Sequence[Sequence[int]], also_without_images: bool) -> None:
        special = self.programs.config.special_tokens
        marked = [[special.bos, *text, special.eos] if text is not None else [] for text in texts]
        token_ids = _padded(marked, text_slots(self.programs, texts), np.int32)
        counts = np.array([len(text) for text in marked], np.int32)
        self._take(token_ids.shape[1])
        self.everything = self._prefilled(PREFILL_TEXT, token_ids, counts)
        if also_without_images and self._without_images is not None:
            self._without_images = self.programs.call(PREFILL_TEXT, self._without_images, token_ids, counts)

    def _prefilled(self, program: Program, *chunk: np.ndarray) -> Context:
        """The context with everything, and a chunk behind it."""
        return self.programs.call(program, self.everything, *chunk)

    def _take(self, slots: int) -> None:
        if slots > self._free:  # a context would write over its last slots
            raise ValueError(f"capacity: expected {slots} free slots for the next chunk, found {self._free}.")
        self._free -= slots


def text_slots(programs: Programs, texts: Sequence[Sequence[int] | None]) -> int:
    """Slots that a chunk of texts takes."""
    longest = max(len(text) for text in texts if text is not None)
    return bucket(max(longest, programs.least_text) + 2)


def latent_slots(views: Sequence[LatentView | None]) -> int:
    """Slots that a chunk of latent images takes."""
    return NUM_MARKERS + latent_width([len(view.position_ids) for view in views if view])


def patch_slots(views: Sequence[PatchView | None]) -> int:
    """Slots that a chunk of patches takes."""
    return NUM_MARKERS + bucket(max(len(view.position_ids) for view in views if view))


def latent_width(counts: Sequence[int]) -> int:
    """Width of a chunk that holds images of these numbers of latent tokens."""
    return bucket(int(max(counts)), _LATENT_BUCKETS)


def encode_views(programs: Programs, views: Sequence[LatentView | None], keys: jax.Array) -> np.ndarray:
    """Latents of the rows' images, float32 [B, G, P]; images of one size are encoded together."""
    width = latent_width([len(view.position_ids) for view in views if view])
    latent = np.zeros((len(views), width, programs.config.latent_values), np.float32)
    for rows in same_size([view.resized.size if view else None for view in views]):
        # Padding of the batch encodes the first image again.
        filled = fill_rows(rows, programs.rows_multiple)
        width, height = views[rows[0]].resized.size
        pixels = np.zeros((len(filled), height, width, 3), np.float32)
        for place in np.flatnonzero(programs.own_rows(len(filled))):
            pixels[place] = to_unit_range(views[filled[place]].resized.pixels)
        encoded = programs.fetch(programs.call(ENCODE_IMAGES, pixels, keys[np.array(filled)]))
        for row, tokens in zip(rows, encoded, strict=False):
            latent[row, : len(tokens)] = tokens
    return latent


def _padded(rows: Sequence[Sequence[int]], width: int, dtype: np.dtype) -> np.ndarray:
    """[B, width], each row padded at its end with zeros."""
    padded = np.zeros((len(rows), width), dtype)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return padded
