"""Places the samples of a row into the fixed buffers of a PackedBatch.

C capacity of a buffer · M images · H, W pixels of the canvas
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from srum_jax.data.errors import CapacityError
from srum_jax.families.bagel.sample_plan import LatentItem, PackedSample
from srum_jax.models.bagel.batch import PackedBatch, TokenStream
from srum_jax.objectives.columns import NO_COLUMNS, ColumnNames


@dataclasses.dataclass(frozen=True)
class RowCapacity:
    """Sizes of the buffers of one row."""

    text: int  # tokens, the markers of images included
    vit: int  # patches
    latent: int  # latent tokens
    ce: int  # predicted text tokens
    images: int  # latent images
    image_height: int  # pixels of the canvas on which each image lies, at its top left
    image_width: int
    latent_stride: int  # pixels of a latent token, along each side
    patch_values: int = 0  # values of a ViT patch
    float_images: bool = False  # pixels are float32 in [-1, 1] instead of uint8
    moment_channels: int = 0  # of stored posteriors, which come instead of pixels; 0: pixels
    moment_stride: int = 0  # pixels of a latent cell, along each side
    samples: int = 1  # slots
    columns: ColumnNames = NO_COLUMNS  # that the objective wants beside the tokens

    @property
    def shares_noise(self) -> bool:
        """Whether neighbours whose time was drawn alike, as of a pair, see one noise."""
        return self.columns.pairs_pictures

    @property
    def canvases(self) -> tuple[int, int, int, int]:
        """Shape [M, H, W, 3] of the pixels; H and W are 0 where posteriors come instead."""
        sides = (0, 0) if self.moment_channels else (self.image_height, self.image_width)
        return (self.images, *sides, 3)

    @property
    def moments(self) -> tuple[int, int, int, int] | None:
        """Shape [M, h, w, 2 z] of the posteriors; None where there are pixels."""
        if not self.moment_channels:
            return None
        return (self.images, self.image_height // self.moment_stride, self.image_width // self.moment_stride,
                self.moment_channels)


class RowBuilder:
    """Fills one row, sample by sample. Padding: sample and split -1, times -inf, everything else 0."""

    def __init__(self, capacity: RowCapacity):
        self.capacity = capacity
        self._streams = {name: _empty_stream(getattr(capacity, name)) for name in ("text", "vit", "latent")}
        self._used = {"text": 0, "vit": 0, "latent": 0, "ce": 0, "images": 0}
        self._num_samples = self._num_splits = self._order = 0
        self._noise: tuple[bytes, int] = b"", 0  # times of the latest picture, and where its noise begins
        pixels = np.float32 if capacity.float_images else np.uint8
        self._arrays = {
            "text_ids": np.zeros(capacity.text, np.int32),
            "vit_patches": np.zeros((capacity.vit, capacity.patch_values), np.float32),
            "vit_position_ids": np.zeros(capacity.vit, np.int32),
            "latent_position_ids": np.zeros(capacity.latent, np.int32),
            "latent_index": np.zeros(capacity.latent, np.int32),
            "timestep_logit": np.full(capacity.latent, -np.inf, np.float32),
            "images": np.zeros(capacity.canvases, pixels),
            "image_size": np.zeros((capacity.images, 2), np.int32),
            "image_columns": {name: np.zeros(capacity.latent, np.float32) for name in capacity.columns.image},
            "ce_index": np.zeros(capacity.ce, np.int32),
            "ce_labels": np.zeros(capacity.ce, np.int32),
            "ce_weights": np.zeros(capacity.ce, np.float32),
            "text_columns": {name: np.zeros(capacity.ce, np.float32) for name in capacity.columns.text},
            "noise_index": np.arange(capacity.latent, dtype=np.int32) if capacity.shares_noise else None,
            "posterior_moments": None if capacity.moments is None else np.zeros(capacity.moments, np.float16),
        }

    def add(self, sample: PackedSample) -> None:
        """Places a sample behind those that are in the row.

        Raises:
          CapacityError: it does not fit; the row is left as it was.
        """
        self._require_room(sample)
        arrays, used = self._arrays, dict(self._used)
        streams = {"text": sample.text_places, "vit": sample.vit_places, "latent": sample.latent_places}
        spans = {name: slice(used[name], used[name] + len(places)) for name, places in streams.items()}
        split_of = np.repeat(np.arange(len(sample.split_lens)), sample.split_lens)
        is_noise = np.asarray([mode == "noise" for mode in sample.split_modes], bool)
        is_full = np.asarray([mode != "causal" for mode in sample.split_modes], bool)
        for name, places in streams.items():
            stream, span = self._streams[name], spans[name]
            split = split_of[places]
            stream["sample"][span] = self._num_samples
            stream["split"][span] = self._num_splits + split
            stream["order"][span] = self._order + places
            stream["full"][span] = is_full[split]
            stream["noise"][span] = is_noise[split]
            stream["position"][span] = sample.position[places]

        arrays["text_ids"][spans["text"]] = sample.text_ids
        if len(sample.vit_places):
            arrays["vit_patches"][spans["vit"]] = sample.vit_patches
        arrays["vit_position_ids"][spans["vit"]] = sample.vit_position_ids
        arrays["latent_position_ids"][spans["latent"]] = sample.latent_position_ids
        arrays["timestep_logit"][spans["latent"]] = sample.timestep_logit
        if self.capacity.shares_noise:
            times, begin = sample.timestep_logit.tobytes(), spans["latent"].start
            self._noise = times, (self._noise[1] if times == self._noise[0] else begin)
            arrays["noise_index"][spans["latent"]] = self._noise[1] + np.arange(len(sample.timestep_logit))
        for name, values in sample.image_columns.items():
            arrays["image_columns"][name][spans["latent"]] = values
        rows = self.capacity.image_height // self.capacity.latent_stride
        columns = self.capacity.image_width // self.capacity.latent_stride
        image, cell = used["images"] + sample.latent_image, sample.latent_cell
        arrays["latent_index"][spans["latent"]] = (image * rows + cell[:, 0]) * columns + cell[:, 1]
        for slot, item in enumerate(sample.images, start=used["images"]):
            height, width = self._size(item)
            arrays["image_size"][slot] = height, width
            if self.capacity.moment_channels:
                cells = tuple(slice(0, side) for side in item.moments.shape[:2])
                arrays["posterior_moments"][slot][cells] = item.moments
                continue
            arrays["images"][slot, :height, :width] = item.pixels
        ce = slice(used["ce"], used["ce"] + len(sample.ce_places))
        arrays["ce_index"][ce] = used["text"] + np.searchsorted(sample.text_places, sample.ce_places)
        arrays["ce_labels"][ce] = sample.ce_labels
        arrays["ce_weights"][ce] = sample.ce_weights
        for name, value in sample.text_columns.items():
            arrays["text_columns"][name][ce] = value

        for name, places in streams.items():
            self._used[name] += len(places)
        self._used["ce"] += len(sample.ce_places)
        self._used["images"] += len(sample.images)
        self._num_samples += 1
        self._num_splits += len(sample.split_lens)
        self._order += sample.length

    def _require_room(self, sample: PackedSample) -> None:
        limit = (self.capacity.image_height, self.capacity.image_width)
        stored = bool(self.capacity.moment_channels)
        for item in sample.images:
            if (item.moments if stored else item.pixels) is None:
                kinds = ("a stored posterior", "pixels") if stored else ("pixels", "a stored posterior")
                raise CapacityError("its image comes as {1}, its row holds {0}".format(*kinds))
            height, width = self._size(item)
            if height > limit[0] or width > limit[1]:
                raise CapacityError(f"its image has {width} x {height} pixels after the transform, the canvas "
                                    f"{limit[1]} x {limit[0]}; raise rows.image_width and rows.image_height, or lower "
                                    "rows.max_size")
        needs = {"text": len(sample.text_ids), "vit": len(sample.vit_places), "latent": len(sample.latent_places),
                 "ce": len(sample.ce_places), "images": len(sample.images)}
        what = {"text": ("text tokens (image markers included)", "text_capacity"),
                "vit": ("ViT patches", "vit_capacity"), "latent": ("latent tokens", "latent_capacity"),
                "ce": ("predicted text tokens", "ce_capacity"), "images": ("latent images", "images_per_row")}
        for name, need in needs.items():
            capacity, used = getattr(self.capacity, name), self._used[name]
            if used + need > capacity:
                words, setting = what[name]
                raise CapacityError(f"needs {need} {words}, but {capacity - used} of {capacity} are left in its row; "
                                    f"raise rows.{setting}")

    def _size(self, item: LatentItem) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        if self.capacity.moment_channels:
            return tuple(self.capacity.moment_stride * cells for cells in item.moments.shape[:2])
        return item.pixels.shape[:2]

    def finish(self) -> PackedBatch:
        """The row, without a leading batch axis."""
        streams = {name: TokenStream(**fields) for name, fields in self._streams.items()}
        return PackedBatch(**streams, **self._arrays, num_samples=self.capacity.samples)


def _empty_stream(capacity: int) -> dict[str, np.ndarray]:
    stream = {name: np.zeros(capacity, np.int32) for name in ("order", "full", "noise", "position")}
    return stream | {name: np.full(capacity, -1, np.int32) for name in ("sample", "split")}


def pack_row(samples: Sequence[PackedSample], capacity: RowCapacity) -> PackedBatch:
    """Places all samples in one row, without a leading batch axis.

    Raises:
      CapacityError: they do not fit.
    """
    builder = RowBuilder(capacity)
    for sample in samples:
        builder.add(sample)
    return builder.finish()
