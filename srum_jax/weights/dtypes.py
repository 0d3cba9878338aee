"""Names of dtypes in safetensors files, and exact casts between float dtypes."""

import ml_dtypes
import numpy as np

from srum_jax.weights.errors import WeightsError

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F16": np.dtype(np.float16),
    "BF16": BFLOAT16,
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
NAMES: dict[np.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}

# What a weight may be stored as; anything else in a weight's place is an error.
WEIGHT_DTYPES = tuple(DTYPES[name] for name in ("BF16", "F16", "F32", "F64"))


def weight_dtype(name: str) -> np.dtype:
    """The dtype that a user means by 'float32' or 'bfloat16'.

    Raises:
      WeightsError: for another name.
    """
    known = {"float32": DTYPES["F32"], "bfloat16": BFLOAT16}
    if name not in known:
        raise WeightsError(f"dtype of weights: expected one of {', '.join(known)}, found {name!r}.")
    return known[name]


def cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values in another float dtype, rounded to nearest even; the same array if it has that dtype."""
    if array.dtype == dtype:
        return array
    # NaN and overflow to infinity are the stored model's business; they are carried over without a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        return array.astype(dtype)
