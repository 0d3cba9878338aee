"""What is read, and how. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
import math
import numbers
import os
from typing import TYPE_CHECKING, Any

from srum_jax.data.image_transform import DEFAULT_MAX_PIXELS, ImageTransform
from srum_jax.objectives.columns import NO_COLUMNS, ColumnNames

if TYPE_CHECKING:
    from srum_jax.families.bagel.packing import RowCapacity
    from srum_jax.models.bagel.config import BagelConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read, how it is packed, and what happens to records that cannot be used."""

    records: str = ""  # directory of reward records
    mixture: tuple[tuple[str, float], ...] = ()  # several instead, each with its weight: its share of the samples
    samples_per_row: int = 2
    rows_per_batch: int = 8  # of the whole job, over all processes
    text_capacity: int = 512  # text tokens of a row: prompts, and four markers a sample
    vit_capacity: int = 0  # ViT patches of a row
    latent_capacity: int = 8192  # latent tokens of a row
    ce_capacity: int = 0  # predicted text tokens of a row
    images_per_row: int = 2
    image_height: int = 1024  # pixels of the canvas on which each image lies
    image_width: int = 1024
    max_size: int = 1024  # pixels; resize rule, see ImageTransform
    min_size: int = 512
    stride: int = 16  # pixels; the authors' scripts: 256
    max_pixels: int = DEFAULT_MAX_PIXELS
    latents: str = "images"  # encoded in every step; "stored": those in the records (tools.precompute_latents)
    text_dropout: float = 0.1  # probability of training without the prompt
    shuffle: bool = True
    on_bad_record: str = "stop"  # "skip" leaves its place empty, and the batch says so
    num_workers: int = 0  # processes that prepare batches; 0: threads of this one
    num_threads: int = 4  # threads of each of these processes
    prefetch: int = 2  # batches kept ready

    def __post_init__(self):
        object.__setattr__(self, "records", os.path.expanduser(self.records))
        for field in ("samples_per_row", "rows_per_batch", "text_capacity", "latent_capacity", "images_per_row",
                      "image_height", "image_width", "max_size", "min_size", "stride", "max_pixels", "num_threads",
                      "prefetch"):
            check(f"data.{field}", getattr(self, field) >= 1, "a positive number", getattr(self, field))
        for field in ("vit_capacity", "ce_capacity", "num_workers"):
            check(f"data.{field}", getattr(self, field) >= 0, "a number that is not negative", getattr(self, field))
        check("data.text_dropout", 0 <= self.text_dropout <= 1, "a number in [0, 1]", self.text_dropout)
        check("data.on_bad_record", self.on_bad_record in ("stop", "skip"), "stop or skip", self.on_bad_record)
        check("data.latents", self.latents in ("images", "stored"), "images or stored", self.latents)
        check("data.images_per_row", self.images_per_row >= self.samples_per_row,
               f"at least samples_per_row ({self.samples_per_row})", self.images_per_row)
        for entry in self.mixture:
            check("data.mixture", _is_weighted_set(entry),
                   "directories, each with a weight that is positive and finite", entry)
        check("data.records", not (self.records and self.mixture), "nothing, because data.mixture names the records",
               self.records)
        object.__setattr__(self, "mixture", tuple((os.path.expanduser(path), share) for path, share in self.mixture))

    @property
    def record_sets(self) -> tuple[tuple[str, float], ...]:
        """Directories of records and their weights; empty where none is named."""
        return self.mixture or (((self.records, 1),) if self.records else ())

    @property
    def transform(self) -> ImageTransform:
        """How images are resized."""
        return ImageTransform(self.max_size, self.min_size, self.stride, self.max_pixels)

    def row_capacity(self, model: "BagelConfig", columns: ColumnNames = NO_COLUMNS) -> "RowCapacity":
        """Buffers of a row.

        Raises:
          ValueError: sizes that do not go with the model.
        """
        for field in ("stride", "image_height", "image_width"):
            value = getattr(self, field)
            check(f"data.{field}", value % model.latent_stride == 0,
                   f"a multiple of the {model.latent_stride} pixels of a latent token", value)
        check("data.vit_capacity", self.vit_capacity == 0 or model.vit is not None, "0 for a model without a ViT",
               self.vit_capacity)
        positions = self.text_capacity + self.images_per_row  # the most that one sample can use
        check("data.text_capacity", positions <= model.llm.max_position_embeddings,
               f"at most the {model.llm.max_position_embeddings} rotary positions of the model, images included",
               self.text_capacity)
        from srum_jax.families.bagel.packing import RowCapacity  # and with it JAX

        return RowCapacity(
            text=self.text_capacity, vit=self.vit_capacity, latent=self.latent_capacity, ce=self.ce_capacity,
            images=self.images_per_row, image_height=self.image_height, image_width=self.image_width,
            latent_stride=model.latent_stride, patch_values=model.vit.patch_values if model.vit else 0,
            moment_channels=2 * model.vae.z_channels if self.latents == "stored" else 0,
            moment_stride=model.vae.downsample, samples=self.samples_per_row, columns=columns)


def _is_weighted_set(entry: Any) -> bool:
    if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], str) or not entry[0]:
        return False
    weight = entry[1]
    return (isinstance(weight, numbers.Real) and not isinstance(weight, bool) and math.isfinite(weight)
            and weight > 0)


def check(name: str, condition: bool, expected: str, found: Any) -> None:
    """Raises ValueError unless the condition holds."""
    if not condition:
        raise ValueError(f"{name}: expected {expected}, found {found!r}.")
