"""The autoencoder's posterior of a record's image, computed once for all runs that train on the record.

It belongs to more than the image: to the size to which the transform of a run resizes it, to the canvas on which it
lies while it is encoded (the autoencoder's normalisation sees the padding too), and to the encoder's weights.

h, w latent cells of the resized image · z channels of a latent
"""

import dataclasses
import numbers
from typing import Any

import numpy as np

from srum_jax.data.errors import SchemaError

MOMENTS_DTYPE = "<f2"
_SIZES = ("image_height", "image_width", "canvas_height", "canvas_width", "downsample", "channels")
KEYS = ("posterior/moments", *(f"posterior/{name}" for name in _SIZES), "posterior/encoder_sha256")


@dataclasses.dataclass(frozen=True)
class StoredPosterior:
    """As stored in a record."""

    moments: bytes  # [h, w, 2 z] float16, little endian, row-major: the means, then the logarithms of the variances
    image_height: int  # pixels of the image as resized for training
    image_width: int
    canvas_height: int  # pixels of the canvas on which it was encoded, at its top left
    canvas_width: int
    downsample: int  # pixels of a latent cell, along each side
    channels: int  # 2 z
    encoder_sha256: bytes  # see srum_jax.weights.encoder

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the moments: h, w, 2 z."""
        return self.image_height // self.downsample, self.image_width // self.downsample, self.channels

    @property
    def array(self) -> np.ndarray:
        """The moments of a valid posterior, float16 [h, w, 2 z]; not to be written to."""
        return np.frombuffer(self.moments, MOMENTS_DTYPE).reshape(self.shape)


def posterior_of_moments(
    moments: np.ndarray, *, canvas: tuple[int, int], downsample: int, encoder_sha256: bytes
) -> StoredPosterior:
    """The posterior of one image.

    Args:
      moments: [h, w, 2 z], of the image's own cells; rounded to float16.
      canvas: height and width in pixels.
      downsample: pixels of a latent cell.
      encoder_sha256: of the weights that computed them.
    """
    height, width, channels = moments.shape
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused when it is written
        values = moments.astype(MOMENTS_DTYPE)
    return StoredPosterior(values.tobytes(), height * downsample, width * downsample, *canvas, downsample, channels,
                           encoder_sha256)


def validate_posterior(posterior: StoredPosterior) -> None:
    """Returns if the posterior may be stored.

    Raises:
      SchemaError: naming the first field that is wrong, what was expected and what was found.
    """
    for name in _SIZES:
        size = getattr(posterior, name)
        whole = isinstance(size, numbers.Integral) and not isinstance(size, bool)
        _require(whole and size > 0, name, "a positive whole number", repr(size))
    _require(posterior.channels % 2 == 0, "channels", "an even number: means and log-variances",
             str(posterior.channels))
    for name in ("image_height", "image_width", "canvas_height", "canvas_width"):
        size = getattr(posterior, name)
        _require(size % posterior.downsample == 0, name, f"a multiple of posterior/downsample, {posterior.downsample}",
                 str(size))
    for side in ("height", "width"):
        size, canvas = getattr(posterior, f"image_{side}"), getattr(posterior, f"canvas_{side}")
        _require(size <= canvas, f"image_{side}", f"at most posterior/canvas_{side}, {canvas}", str(size))
    rows, columns, channels = posterior.shape
    expected = 2 * rows * columns * channels
    _require(len(posterior.moments) == expected, "moments",
             f"{expected} bytes (float16 [{rows}, {columns}, {channels}])", f"{len(posterior.moments)} bytes")
    wrong = int(np.count_nonzero(~np.isfinite(posterior.array)))
    _require(wrong == 0, "moments", "finite float16 numbers", f"{wrong} that are not")
    _require(len(posterior.encoder_sha256) == 32, "encoder_sha256", "32 bytes",
             f"{len(posterior.encoder_sha256)} bytes")


def posterior_to_values(posterior: StoredPosterior | None) -> dict[str, list]:
    """Values by key, empty lists where there is no posterior."""
    if posterior is None:
        return {key: [] for key in KEYS}
    return {key: [getattr(posterior, key.partition("/")[2])] for key in KEYS}


def posterior_from_values(values: dict[str, list[Any]]) -> StoredPosterior | None:
    """The inverse of `posterior_to_values`; other keys are ignored.

    Raises:
      SchemaError: some of the keys are there and some are not.
    """
    present = [key for key in KEYS if values[key]]
    if not present:
        return None
    for key in KEYS:
        if not values[key]:
            raise SchemaError(key, f"a value, because '{present[0]}' has one", "nothing")
    return StoredPosterior(**{key.partition("/")[2]: values[key][0] for key in KEYS})


def _require(condition: bool, name: str, expected: str, found: str) -> None:
    if not condition:
        raise SchemaError(f"posterior/{name}", expected, found)
