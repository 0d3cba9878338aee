"""From a plan of texts and images to one packed sample: tokens, splits, rotary positions, labels, times.

    item                    tokens                    rotary ids     split    ids advance by
    text of n ids           bos, ids, eos             r .. r+n+1     causal   n + 2
    ViT image               start, patches, end       all r          full     1
    latent image, clean     start, latents, end       all r          full     1
    latent image, loss      start, latents, end       all r          noise    0

Frames of a video share one split; ids advance by the frame distance after each frame that has one.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from srum_jax.data.example import RandomDraws
from srum_jax.models.bagel.config import SpecialTokens


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Probability that a droppable item is left out, so that the model learns to do without (guidance)."""

    text: float = 0.1
    vit: float = 0.3
    latent: float = 0.3


@dataclasses.dataclass(frozen=True)
class TextItem:
    """A piece of text."""

    ids: Sequence[int]
    loss: bool = False  # predict each id, and the closing token, from what stands before
    droppable: bool = False
    closing_label: int | None = None  # id to be predicted at the closing token


@dataclasses.dataclass(frozen=True, eq=False)
class VitItem:
    """An image to be understood."""

    patches: np.ndarray  # float32 [m, patch values], in [-1, 1]
    position_ids: np.ndarray  # int [m]
    droppable: bool = False
    closing_label: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class LatentItem:
    """An image to be generated (`loss`) or conditioned on."""

    pixels: np.ndarray | None  # uint8 [H, W, 3], or float32 in [-1, 1]; None where there are moments instead
    grid: tuple[int, int]  # rows and columns of its latent tokens
    position_ids: np.ndarray  # int [rows * columns]
    loss: bool = False
    droppable: bool = False
    closing_label: int | None = None
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # float32 [rows, columns] each
    split_start: bool = True  # False: continues the split of the frame before
    split_end: bool = True
    frame_delta: int | None = None  # rotary ids to the next frame of a video
    moments: np.ndarray | None = None  # float16 [h, w, 2 z], the autoencoder's posterior


@dataclasses.dataclass(frozen=True, eq=False)
class PackedSample:
    """One sample as lists. Places count from the start of the sample. N tokens, of which T text, V ViT, G latent."""

    split_lens: tuple[int, ...]
    split_modes: tuple[str, ...]  # "causal", "full" or "noise"
    position: np.ndarray  # int32 [N] rotary positions
    text_ids: np.ndarray  # int32 [T], the markers of images included
    text_places: np.ndarray  # int32 [T]
    vit_patches: np.ndarray  # float32 [V, patch values]
    vit_places: np.ndarray  # int32 [V]
    vit_position_ids: np.ndarray  # int32 [V]
    latent_places: np.ndarray  # int32 [G]
    latent_position_ids: np.ndarray  # int32 [G]
    latent_image: np.ndarray  # int32 [G] which of `images`
    latent_cell: np.ndarray  # int32 [G, 2] row and column in its image
    timestep_logit: np.ndarray  # float32 [G]; -inf for clean images
    image_columns: dict[str, np.ndarray]  # float32 [G] each; 0 for images without that column
    images: tuple[LatentItem, ...]
    ce_places: np.ndarray  # int32 [C] places whose next token is predicted
    ce_labels: np.ndarray  # int32 [C]
    ce_weights: np.ndarray  # float32 [C]
    text_columns: Mapping[str, float] = dataclasses.field(default_factory=dict)  # one value for all predictions

    @property
    def length(self) -> int:
        """Tokens in all."""
        return sum(self.split_lens)

    @property
    def loss_places(self) -> np.ndarray:
        """Places of the latent tokens that enter the flow-matching loss."""
        return self.latent_places[np.isfinite(self.timestep_logit)]


class _Builder:
    """Appends items; every list grows in the order of the sequence."""

    def __init__(self, special: SpecialTokens):
        self.special = special
        self.rotary = 0
        self.split_lens: list[int] = []
        self.split_modes: list[str] = []
        self.open_split = False
        self.position: list[np.ndarray] = []
        self.length = 0
        self.text_ids: list[int] = []
        self.text_places: list[int] = []
        self.vits: list[tuple[VitItem, int]] = []
        self.latents: list[tuple[LatentItem, int, float]] = []
        self.ce: list[tuple[int, int, float]] = []
        self.split_logit = -math.inf

    def _text(self, token: int) -> None:
        self.text_ids.append(token)
        self.text_places.append(self.length)
        self.length += 1

    def _close_item(self, size: int, label: int | None) -> None:
        self.split_lens[-1] += size
        if label is not None:
            self.ce.append((self.length - 1, label, 1.0))

    def _start_split(self, mode: str) -> None:
        if self.open_split:
            raise ValueError("a split begins before the one before it has ended; check split_start and split_end.")
        self.split_lens.append(0)
        self.split_modes.append(mode)

    def add_text(self, item: TextItem) -> None:
        self._start_split("causal")
        ids = [int(token) for token in item.ids]
        start = self.length
        for token in (self.special.bos, *ids, self.special.eos):
            self._text(token)
        if item.loss:
            weight = 1 / math.sqrt(len(ids) + 1)
            self.ce += [(start + i, label, weight) for i, label in enumerate((*ids, self.special.eos))]
        size = len(ids) + 2
        self.position.append(np.arange(self.rotary, self.rotary + size))
        self.rotary += size
        self._close_item(size, item.closing_label)

    def _image(self, count: int) -> int:
        """Start marker, room for the tokens, end marker; returns the place of the first token."""
        self._text(self.special.start_of_image)
        first = self.length
        self.length += count
        self._text(self.special.end_of_image)
        self.position.append(np.full(count + 2, self.rotary))
        return first

    def add_vit(self, item: VitItem) -> None:
        self._start_split("full")
        count = len(item.patches)
        self.vits.append((item, self._image(count)))
        self._close_item(count + 2, item.closing_label)
        self.rotary += 1

    def add_latent(self, item: LatentItem, draws: RandomDraws) -> None:
        if item.split_start:
            self._start_split("noise" if item.loss and item.frame_delta is None else "full")
            self.split_logit = -math.inf
            if item.loss:
                self.split_logit = float(draws.standard_normal())
        elif not self.open_split:
            raise ValueError("a frame continues a split, but none is open; check split_start and split_end.")
        elif item.loss and self.split_logit == -math.inf:
            raise ValueError("a frame with a loss follows a clean frame in one split, which has no time.")
        self.open_split = not item.split_end
        count = item.grid[0] * item.grid[1]
        self.latents.append((item, self._image(count), self.split_logit if item.loss else -math.inf))
        self._close_item(count + 2, item.closing_label)
        if item.frame_delta is not None:
            self.rotary += item.frame_delta
        elif not item.loss:
            self.rotary += 1

    def finish(self) -> PackedSample:
        if self.open_split:
            raise ValueError("the last split has no end; check split_end.")
        sizes = [item.grid[0] * item.grid[1] for item, _, _ in self.latents]
        patch_values = self.vits[0][0].patches.shape[1] if self.vits else 0
        cells = [np.stack(np.unravel_index(np.arange(size), item.grid), axis=1)
                 for size, (item, _, _) in zip(sizes, self.latents, strict=True)]
        names = dict.fromkeys(name for item, _, _ in self.latents for name in item.columns)
        return PackedSample(
            split_lens=tuple(self.split_lens),
            split_modes=tuple(self.split_modes),
            position=_join(self.position, np.int32),
            text_ids=np.asarray(self.text_ids, np.int32),
            text_places=np.asarray(self.text_places, np.int32),
            vit_patches=_join([item.patches for item, _ in self.vits], np.float32, (0, patch_values)),
            vit_places=_join([first + np.arange(len(item.patches)) for item, first in self.vits], np.int32),
            vit_position_ids=_join([item.position_ids for item, _ in self.vits], np.int32),
            latent_places=_join([first + np.arange(size) for size, (_, first, _) in
                                 zip(sizes, self.latents, strict=True)], np.int32),
            latent_position_ids=_join([item.position_ids for item, _, _ in self.latents], np.int32),
            latent_image=np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
            latent_cell=_join(cells, np.int32, (0, 2)),
            timestep_logit=np.repeat(np.asarray([logit for _, _, logit in self.latents], np.float32), sizes),
            image_columns={
                name: _join([np.reshape(item.columns[name], -1) if name in item.columns else np.zeros(size)
                             for size, (item, _, _) in zip(sizes, self.latents, strict=True)], np.float32)
                for name in names
            },
            images=tuple(item for item, _, _ in self.latents),
            ce_places=np.asarray([place for place, _, _ in self.ce], np.int32),
            ce_labels=np.asarray([label for _, label, _ in self.ce], np.int32),
            ce_weights=np.asarray([weight for _, _, weight in self.ce], np.float32),
        )


def pack_sample(
    plan: Sequence[TextItem | VitItem | LatentItem],
    special: SpecialTokens,
    dropout: Dropout,
    draws: RandomDraws,
) -> PackedSample:
    """Turns a plan into tokens.

    A uniform number is drawn for each droppable item, a normal one for each noise image (each split of a video), in
    the order of the plan. A dropped text leaves the rotary ids where they are, a dropped image moves them on by one.

    Raises:
      ValueError: the frames of a video do not form splits.
    """
    builder = _Builder(special)
    for item in plan:
        if isinstance(item, TextItem):
            if item.droppable and draws.random() < dropout.text:
                continue
            builder.add_text(item)
            continue
        is_vit = isinstance(item, VitItem)
        if item.droppable and draws.random() < (dropout.vit if is_vit else dropout.latent):
            builder.rotary += 1
            continue
        if is_vit:
            builder.add_vit(item)
        else:
            builder.add_latent(item, draws)
    return builder.finish()


def _join(parts: Sequence[np.ndarray], dtype: type, empty_shape: tuple[int, ...] = (0,)) -> np.ndarray:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(empty_shape, dtype)
