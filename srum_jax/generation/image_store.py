"""Images as files: equal pixels and records give equal bytes."""

import dataclasses
import io
import json
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """One way to store an image."""

    suffix: str
    bytes_per_pixel: float  # of photographs and drawings, roughly; for estimates
    options: dict[str, Any]


FORMATS = {
    "png": ImageFormat(".png", 1.6, {"compress_level": 6}),
    "webp": ImageFormat(".webp", 1.1, {"lossless": True, "quality": 80, "method": 4, "exact": True}),
    "jpeg": ImageFormat(".jpg", 0.5, {"quality": 95, "subsampling": 0}),  # the only one with a loss
}


def encode_image(pixels: np.ndarray, image_format: str, record: dict[str, Any]) -> bytes:
    """The bytes of a file.

    Args:
      pixels: uint8 [H, W, 3].
      image_format: one of `FORMATS`.
      record: goes into PNG files as the iTXt entry `srum`.
    """
    options = dict(FORMATS[image_format].options)
    if image_format == "png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("srum", json.dumps(record, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=image_format.upper(), **options)
    return buffer.getvalue()


def crop_black_border(pixels: np.ndarray) -> np.ndarray:
    """The smallest part that holds every pixel that is not black; all of it if there is none. Uint8 [H, W, 3]."""
    bright = pixels.any(axis=-1)
    if not bright.any():
        return pixels
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
