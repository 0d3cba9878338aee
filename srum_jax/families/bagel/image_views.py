"""The two views of an image that the model is given: pixels for the autoencoder, patches for the vision tower."""

import dataclasses

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
class LatentView:
    """For the autoencoder."""

    pixels: np.ndarray  # uint8 [H, W, 3]
    position_ids: np.ndarray  # int32 [G], rows of the latent position table


@dataclasses.dataclass(frozen=True)
class PatchView:
    """For the vision tower."""

    patches: np.ndarray  # float32 [V, patch values], in [-1, 1]
    position_ids: np.ndarray  # int32 [V], rows of the vision position tables


def latent_view(image: Picture, views: ImageViews, config: BagelConfig) -> LatentView:
    """Resizes an image for the autoencoder.

    Raises:
      RequestError: if it is not an image, or too large or too slender for the position table.
    """
    image = as_image(image)
    check_aspect(image, _MAX_ASPECT)
    pixels = views.latent.resize(image)
    return LatentView(pixels, latent_position_ids(*pixels.shape[:2], config))


def patch_view(resized: np.ndarray, views: ImageViews, config: BagelConfig) -> PatchView:
    """Patches of an image that went through the latent view, uint8 [H, W, 3].

    Raises:
      RequestError: if it is too large for the position table.
    """
    pixels = views.vit.resize(Image.fromarray(resized))
    patch = config.vit.patch_size
    rows, columns = pixels.shape[0] // patch, pixels.shape[1] // patch
    ids = _position_ids(rows, columns, config.vit_max_num_patch_per_side, config, "image")
    return PatchView(patchify(to_unit_range(pixels), patch), ids)


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
