"""Settings of BAGEL's rows. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
from typing import ClassVar

from srum_jax.data.image_transform import DEFAULT_MAX_PIXELS, ImageTransform
from srum_jax.errors import check


@dataclasses.dataclass(frozen=True)
class BagelRows:
    """Capacities of a row, and how pictures are brought to size."""

    token_capacities: ClassVar[tuple[str, ...]] = ("text_capacity", "vit_capacity", "latent_capacity")
    code_field: ClassVar[str] = "latents"

    samples_per_row: int = 2
    text_capacity: int = 512  # text tokens: prompts, and four markers a sample
    vit_capacity: int = 0  # ViT patches
    latent_capacity: int = 8192  # latent tokens
    ce_capacity: int = 0  # predicted text tokens
    images_per_row: int = 2
    image_height: int = 1024  # pixels of the canvas on which each image lies
    image_width: int = 1024
    max_size: int = 1024  # pixels; resize rule, see ImageTransform
    min_size: int = 512
    stride: int = 16  # pixels; the authors' scripts: 256
    max_pixels: int = DEFAULT_MAX_PIXELS
    latents: str = "images"  # encoded in every step; "stored": those in the records (tools.precompute_latents)
    # Whether names of control tokens inside a text act as such, as in the reference; else they are text like any other.
    control_tokens: bool = False

    def __post_init__(self):
        for field in ("samples_per_row", "text_capacity", "latent_capacity", "images_per_row", "image_height",
                      "image_width", "max_size", "min_size", "stride", "max_pixels"):
            check(f"rows.{field}", getattr(self, field) >= 1, "a positive number", getattr(self, field))
        for field in ("vit_capacity", "ce_capacity"):
            check(f"rows.{field}", getattr(self, field) >= 0, "a number that is not negative", getattr(self, field))
        check("rows.latents", self.latents in ("images", "stored"), "images or stored", self.latents)
        check("rows.images_per_row", self.images_per_row >= self.samples_per_row,
              f"at least samples_per_row ({self.samples_per_row})", self.images_per_row)

    @property
    def stored_codes(self) -> bool:
        """Whether latents come from the records."""
        return self.latents == "stored"

    @property
    def transform(self) -> ImageTransform:
        """How images are resized."""
        return ImageTransform(self.max_size, self.min_size, self.stride, self.max_pixels)
