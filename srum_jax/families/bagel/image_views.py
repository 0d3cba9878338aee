"""The two views of an image that the model is given: pixels for the autoencoder, patches for the vision tower."""

import dataclasses
import functools

import numpy as np
from PIL import Image

from srum_jax.data.image_transform import ImageTransform, to_unit_range
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.inference.request_checks import as_image, check_aspect
from srum_jax.inference.requests import Picture, RequestError
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.patchify import patchify

_MAX_ASPECT = 20  # longer strips leave nothing to see after the resize


@dataclasses.dataclass(frozen=True)
class ImageViews:
    """How images are resized. The vision tower's view is made from the autoencoder's."""

    latent: ImageTransform
    vit: ImageTransform | None

    @classmethod
    def of(cls, config: BagelConfig) -> "ImageViews":
        """As large as the position tables allow; for the released model 512 to 1024 and 224 to 980 pixels."""
        side = config.max_latent_size * config.latent_stride
        latent = ImageTransform(max_size=side, min_size=side // 2, stride=config.latent_stride)
        if config.vit is None:
            return cls(latent, None)
        patch = config.vit.patch_size
        side = config.vit_max_num_patch_per_side * patch
        return cls(latent, ImageTransform(max_size=side, min_size=min(16 * patch, side), stride=patch))


@dataclasses.dataclass(frozen=True)
class Resized:
    """An image as a transform leaves it.

    It is resized when its pixels are first asked for: of a batch that several processes share, each asks for those of
    its own rows.
    """

    image: Image.Image
    transform: ImageTransform

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.transform.target_size(*self.image.size)

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """Uint8 [H, W, 3]."""
        return self.transform.resize(self.image)


@dataclasses.dataclass(frozen=True)
class LatentView:
    """For the autoencoder."""

    resized: Resized
    position_ids: np.ndarray  # int32 [G], rows of the latent position table


@dataclasses.dataclass(frozen=True)
class PatchView:
    """For the vision tower."""

    source: Resized  # for the autoencoder
    transform: ImageTransform
    patch_size: int  # pixels
    position_ids: np.ndarray  # int32 [V], rows of the vision position tables

    @functools.cached_property
    def patches(self) -> np.ndarray:
        """Float32 [V, patch values], in [-1, 1]."""
        pixels = self.transform.resize(Image.fromarray(self.source.pixels))
        return patchify(to_unit_range(pixels), self.patch_size)


def latent_view(image: Picture, views: ImageViews, config: BagelConfig) -> LatentView:
    """Resizes an image for the autoencoder.

    Raises:
      RequestError: if it is not an image, or too large or too slender for the position table.
    """
    image = as_image(image)
    check_aspect(image, _MAX_ASPECT)
    resized = Resized(image, views.latent)
    return LatentView(resized, latent_position_ids(*resized.size[::-1], config))


def patch_view(resized: Resized, views: ImageViews, config: BagelConfig) -> PatchView:
    """Patches of an image that goes through the latent view first.

    Raises:
      RequestError: if it is too large for the position table.
    """
    width, height = views.vit.target_size(*resized.size)
    patch = config.vit.patch_size
    ids = _position_ids(height // patch, width // patch, config.vit_max_num_patch_per_side, config, "image")
    return PatchView(resized, views.vit, patch, ids)


def latent_position_ids(height: int, width: int, config: BagelConfig) -> np.ndarray:
    """Rows of the latent position table for an image of this many pixels, multiples of the stride: int32 [G].

    Raises:
      RequestError: the sides are beyond the table.
    """
    stride = config.latent_stride
    return _position_ids(height // stride, width // stride, config.max_latent_size, config, "height x width")


def _position_ids(rows: int, columns: int, side: int, config: BagelConfig, field: str) -> np.ndarray:
    try:
        return position_ids(rows, columns, side, config.interpolate_pos)
    except ValueError as error:
        raise RequestError(f"{field}: {error}; choose a smaller size.") from error
