"""What a model's encoder makes of a record's image, computed once for all runs that train on the record.

It belongs to more than the image: to the size to which the transform of a run resizes it, to the canvas on which it
lies while it is encoded (normalisations see the padding too), and to the encoder's weights.

    kind         values
    posterior    an autoencoder's latents: float16 [h, w, 2 z], their means, then the logarithms of their variances
    features     a tower's pooled features: float16 [h, w, channels]
    codes        indices of a codebook: int32 [h, w]
"""

import dataclasses
import math
import numbers
from typing import Any

import numpy as np

from srum_jax.data.errors import require

POSTERIOR = "posterior"
DTYPES = {"float16": "<f2", "int32": "<i4"}
_SIZES = ("image_height", "image_width", "canvas_height", "canvas_width")


@dataclasses.dataclass(frozen=True)
class StoredCode:
    """As stored in a record."""

    kind: str
    values: bytes  # little endian, row-major
    dtype: str  # a name in DTYPES
    shape: tuple[int, ...]
    image_height: int  # pixels of the image as resized for training
    image_width: int
    canvas_height: int  # pixels of the canvas on which it was encoded, at its top left
    canvas_width: int
    encoder_sha256: bytes  # see srum_jax.weights.checkpoint

    @classmethod
    def of(
        cls, kind: str, values: np.ndarray, dtype: str, *, image: tuple[int, int], canvas: tuple[int, int],
        encoder_sha256: bytes,
    ) -> "StoredCode":
        """The code of one image.

        Args:
          kind: what the values are.
          values: of any shape; rounded to `dtype`.
          dtype: a name in DTYPES.
          image: height and width in pixels of the image as it was encoded.
          canvas: of what it lay on.
          encoder_sha256: of the weights that computed them.
        """
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused when it is written
            data = np.ascontiguousarray(values.astype(DTYPES[dtype])).tobytes()
        return cls(kind, data, dtype, values.shape, *image, *canvas, encoder_sha256)

    @property
    def array(self) -> np.ndarray:
        """The values of a valid code; not to be written to."""
        return np.frombuffer(self.values, DTYPES[self.dtype]).reshape(self.shape)


def validate_code(code: StoredCode) -> None:
    """Returns if the code may be stored.

    Raises:
      SchemaError: naming the first field that is wrong, what was expected and what was found.
    """
    require(bool(code.kind), "code/kind", "a name", "nothing")
    require(code.dtype in DTYPES, "code/dtype", f"one of {', '.join(DTYPES)}", repr(code.dtype))
    for name in _SIZES:
        size = getattr(code, name)
        require(_is_size(size), f"code/{name}", "a positive whole number", repr(size))
    for side in ("height", "width"):
        size, canvas = getattr(code, f"image_{side}"), getattr(code, f"canvas_{side}")
        require(size <= canvas, f"code/image_{side}", f"at most code/canvas_{side}, {canvas}", str(size))
    require(len(code.shape) > 0 and all(map(_is_size, code.shape)), "code/shape", "positive whole numbers",
            repr(tuple(code.shape)))
    expected = math.prod(code.shape) * np.dtype(DTYPES[code.dtype]).itemsize
    require(len(code.values) == expected, "code/values", f"{expected} bytes ({code.dtype} {list(code.shape)})",
            f"{len(code.values)} bytes")
    wrong = int(np.count_nonzero(~np.isfinite(code.array)))
    require(wrong == 0, "code/values", f"finite {code.dtype} numbers", f"{wrong} that are not")
    require(len(code.encoder_sha256) == 32, "code/encoder_sha256", "32 bytes", f"{len(code.encoder_sha256)} bytes")


def _is_size(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0
