"""Image bytes to training pixels: decode, resize rule, bicubic resize. As the reference, to the last bit.

An image is what a viewer shows: where its EXIF data says that it lies on its side, it is turned before anything else,
and its width and height are those of the turned image. (The reference leaves it as it lies.)
"""

import dataclasses
import io
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from srum_jax.data.errors import ImageError, ImageModeError

DEFAULT_MAX_PIXELS = 14 * 14 * 9 * 1024
# What is opened at all. PIL would try every decoder it has, and for EPS start Ghostscript on the file's program.
_FORMATS = ("PNG", "WEBP", "JPEG", "GIF", "BMP", "PPM")
_NAMES = {"MPO": "JPEG"}  # a photograph with a preview behind it, as phones store them; the first picture counts
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, from 5 on width and height change places
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, OverflowError, IndexError, MemoryError, struct.error,
                  zlib.error, Image.DecompressionBombError)
_SUPPORTED_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


@dataclasses.dataclass(frozen=True)
class ImageTransform:
    """Resizes to multiples of `stride`, between `min_size` and `max_size` pixels where the shape allows it."""

    max_size: int = 1024  # pixels, longer side
    min_size: int = 512  # pixels, shorter side
    stride: int = 16  # pixels
    max_pixels: int = DEFAULT_MAX_PIXELS  # of all images of a sample together

    def target_size(self, width: int, height: int, num_images: int = 1) -> tuple[int, int]:
        """Width and height after the transform. Halves are rounded to even, as Python does.

        Args:
          width: pixels before.
          height: likewise.
          num_images: images of the same sample, which share `max_pixels`.
        """
        scale = min(self.max_size / max(width, height), 1.0)
        scale = max(scale, self.min_size / min(width, height))
        width, height = self._apply(width, height, scale)
        if width * height > self.max_pixels / num_images:
            # A ratio of areas used as a ratio of sides: the reference shrinks more than it has to.
            scale = self.max_pixels / num_images / (width * height)
            width, height = self._apply(width, height, scale)
        if max(width, height) > self.max_size:
            width, height = self._apply(width, height, self.max_size / max(width, height))
        return width, height

    def _apply(self, width: int, height: int, scale: float) -> tuple[int, int]:
        def side(pixels: int) -> int:
            return max(self.stride, round(round(pixels * scale) / self.stride) * self.stride)

        return side(width), side(height)

    def resize(self, image: Image.Image) -> np.ndarray:
        """Uint8 [height, width, 3] of the resized image: bicubic with antialias."""
        size = self.target_size(*image.size)
        image = to_rgb(image)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(image)


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of an image file say."""

    format: str  # lower case: "png", "jpeg", "webp", ...
    width: int
    height: int
    mode: str  # "RGB", "L", "RGBA", ...; see PIL
    transparent: bool = False  # one of its colours is, in a mode without alpha

    @property
    def converted_from(self) -> str | None:
        """What `to_rgb` will have to convert, None if nothing."""
        if self.transparent:
            return f"{self.mode} with a transparent colour"
        return None if self.mode == "RGB" else self.mode


def read_header(encoded: bytes) -> ImageHeader:
    """Format and size without decoding pixels.

    Raises:
      ImageError: the bytes do not start as an image.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            size = image.size[::-1] if _orientation(image) >= 5 else image.size
            name = image.format or ""
            return ImageHeader(_NAMES.get(name, name).lower(), *size, image.mode,
                               image.info.get("transparency") is not None)
    except _DECODE_ERRORS as error:
        raise ImageError(f"undecodable image: {_describe(error)}") from error


def decode_image(encoded: bytes) -> Image.Image:
    """All pixels of an image file, upright and in its own mode.

    Raises:
      ImageError: the bytes are damaged, truncated, or of a kind that has no 8-bit RGB form.
    """
    try:
        image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
    except _DECODE_ERRORS as error:
        raise ImageError(f"undecodable image: {_describe(error)}") from error
    with image:
        return with_pixels(image)


def with_pixels(image: Image.Image) -> Image.Image:
    """The image, upright, once its pixels are known to be readable: PIL reads them when they are first needed.

    Raises:
      ImageError: as `decode_image`.
    """
    orientation = _orientation(image)
    try:
        image.load()
    except _DECODE_ERRORS as error:
        raise ImageError(f"undecodable image: {_describe(error)}") from error
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
        image.info.pop("exif", None)  # or it would be turned again
    if image.mode not in _SUPPORTED_MODES:
        raise ImageModeError(f"undecodable image: expected 8 bits a channel, found mode {image.mode!r}")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB; what is transparent is put on white."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def to_unit_range(pixels: np.ndarray) -> np.ndarray:
    """Uint8 pixels as float32 in [-1, 1]."""
    return (pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def _orientation(image: Image.Image) -> int:
    """By EXIF, as far as the file states it before its pixels; 1 where it states none, or none that can be read."""
    data = image.info.get("exif")
    if not data:
        return 1
    exif = Image.Exif()
    try:
        exif.load(data)
        orientation = exif.get(_ORIENTATION, 1)
    except _DECODE_ERRORS:
        return 1
    return orientation if isinstance(orientation, int) else 1


def _describe(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text has an address in memory, different at each run
        return f"expected a file of one of the kinds {', '.join(_FORMATS)}"
    return str(error) or type(error).__name__
