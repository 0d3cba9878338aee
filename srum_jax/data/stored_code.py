"""What a model's encoder makes of a record's image, computed once for all runs that train on the record.

It belongs to more than the image: to the size to which the transform of a run resizes it, to the canvas on which it
lies while it is encoded (normalisations see the padding too), and to the encoder's weights.

    kind         values
    posterior    an autoencoder's latents: float16 [h, w, 2 z], their means, then the logarithms of their variances
"""

import dataclasses
import math
import numbers
from typing import Any

import numpy as np

from srum_jax.data.errors import SchemaError

POSTERIOR = "posterior"
DTYPES = {"float16": "<f2", "int32": "<i4"}
_SIZES = ("image_height", "image_width", "canvas_height", "canvas_width")
KEYS = ("code/kind", "code/values", "code/dtype", "code/shape", *(f"code/{name}" for name in _SIZES),
        "code/encoder_sha256")
# Keys of records that were written when posteriors were the only kind; they are read, and written no more.
POSTERIOR_KEYS = ("posterior/moments", *(f"posterior/{name}" for name in _SIZES), "posterior/downsample",
                  "posterior/channels", "posterior/encoder_sha256")


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
    encoder_sha256: bytes  # see srum_jax.weights.encoder

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
    _require(bool(code.kind), "kind", "a name", "nothing")
    _require(code.dtype in DTYPES, "dtype", f"one of {', '.join(DTYPES)}", repr(code.dtype))
    for name in _SIZES:
        size = getattr(code, name)
        _require(_is_size(size), name, "a positive whole number", repr(size))
    for side in ("height", "width"):
        size, canvas = getattr(code, f"image_{side}"), getattr(code, f"canvas_{side}")
        _require(size <= canvas, f"image_{side}", f"at most code/canvas_{side}, {canvas}", str(size))
    _require(len(code.shape) > 0 and all(map(_is_size, code.shape)), "shape", "positive whole numbers",
             repr(tuple(code.shape)))
    expected = math.prod(code.shape) * np.dtype(DTYPES[code.dtype]).itemsize
    _require(len(code.values) == expected, "values", f"{expected} bytes ({code.dtype} {list(code.shape)})",
             f"{len(code.values)} bytes")
    wrong = int(np.count_nonzero(~np.isfinite(code.array)))
    _require(wrong == 0, "values", f"finite {code.dtype} numbers", f"{wrong} that are not")
    _require(len(code.encoder_sha256) == 32, "encoder_sha256", "32 bytes", f"{len(code.encoder_sha256)} bytes")


def code_to_values(code: StoredCode | None) -> dict[str, list]:
    """Values by key, empty lists where there is no code."""
    if code is None:
        return {key: [] for key in KEYS}
    found = {key: getattr(code, key.partition("/")[2]) for key in KEYS}
    return {key: list(value) if key == "code/shape" else [value] for key, value in found.items()}


def code_from_values(values: dict[str, list[Any]]) -> StoredCode | None:
    """The inverse of `code_to_values`, which also reads POSTERIOR_KEYS; other keys are ignored.

    Raises:
      SchemaError: some of the keys are there and some are not, or the older ones do not go together.
    """
    if _all_or_none(values, KEYS):
        fields = {key.partition("/")[2]: values[key][0] for key in KEYS}
        return StoredCode(**fields | {"shape": tuple(values["code/shape"])})
    if not _all_or_none(values, POSTERIOR_KEYS):
        return None
    old = {key.partition("/")[2]: values[key][0] for key in POSTERIOR_KEYS}
    stride, sizes = old["downsample"], {name: old[name] for name in _SIZES}
    for name, size in sizes.items():
        if stride < 1 or size % stride:
            raise SchemaError(f"posterior/{name}", f"a multiple of posterior/downsample, {stride}", str(size))
    shape = (sizes["image_height"] // stride, sizes["image_width"] // stride, old["channels"])
    return StoredCode(POSTERIOR, old["moments"], "float16", shape, **sizes, encoder_sha256=old["encoder_sha256"])


def _all_or_none(values: dict[str, list[Any]], keys: tuple[str, ...]) -> bool:
    present = [key for key in keys if values[key]]
    missing = [key for key in keys if not values[key]]
    if present and missing:
        raise SchemaError(missing[0], f"a value, because '{present[0]}' has one", "nothing")
    return bool(present)


def _is_size(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0


def _require(condition: bool, name: str, expected: str, found: str) -> None:
    if not condition:
        raise SchemaError(f"code/{name}", expected, found)
