"""Reading safetensors files: the header with every check, then any region of any tensor.

Layout of a file: 8 bytes, the little-endian length of the header; the header, a JSON object from tensor name
to `{"dtype", "shape", "data_offsets": [begin, end]}`; the tensors' bytes, row-major, without gaps.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from srum_jax.storage.ranges import RangeReader
from srum_jax.weights.dtypes import DTYPES
from srum_jax.weights.errors import WeightsError, raise_together

# The limit of the format's own reader; a longer header is an attack or not a header.
MAX_HEADER_BYTES = 100_000_000
_MAX_RANK = 16
_LFS_POINTER = b"version "  # how the text begins that git-lfs leaves in the place of a large file
# A region of whole columns lies scattered over its rows. Short rows are read as they are, a block of them at
# a time, and the columns picked out in memory: requests of a few hundred bytes would cost more than the
# bytes between them.
_SHORT_ROW_BYTES = 2**20
_BLOCK_BYTES = 32 * 2**20

Region = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies. `begin` and `end` are bytes from the start of the file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def num_bytes(self) -> int:
        """Size of the tensor's data."""
        return self.end - self.begin


class SafetensorsFile:
    """One file. Opening reads and checks the header only; all reads are of exactly the region asked for."""

    def __init__(self, path: epath.PathLike):
        """Opens a file.

        Args:
          path: local, or of any file system that epath knows.

        Raises:
          WeightsError: if the file is absent, truncated, or no valid safetensors file; all problems together.
        """
        self.path = epath.Path(path)
        self._bytes = RangeReader(self.path)
        self.size = self._size()
        self.tensors: Mapping[str, TensorEntry]
        self.metadata: Mapping[str, str]
        self.tensors, self.metadata = self._read_header()

    def read(self, name: str, region: Region | None = None) -> np.ndarray:
        """One region of one tensor, as a new C-contiguous array of the stored dtype.

        Args:
          name: of the tensor.
          region: one slice of step 1 per dimension (missing ones mean everything); None for the whole tensor.

        Raises:
          WeightsError: if there is no such tensor, or the file became shorter.
        """
        if name not in self.tensors:
            raise WeightsError(f"{self.path}: no tensor '{name}'.")
        entry = self.tensors[name]
        bounds = region_bounds(entry.shape, region)
        result = np.empty([stop - start for start, stop in bounds], entry.dtype)
        if result.size:
            self._read_box(entry, bounds, result)
        return result

    def close(self) -> None:
        """Releases the file."""
        self._bytes.close()

    def _read_box(self, entry: TensorEntry, bounds: Sequence[tuple[int, int]], result: np.ndarray) -> None:
        strides = [math.prod(entry.shape[d + 1 :]) for d in range(len(entry.shape))]
        if is_contiguous(entry.shape, bounds):
            first = sum(start * stride for (start, _), stride in zip(bounds, strides, strict=True))
            self._read_flat(entry, first, result.reshape(-1))
            return
        start, stop = bounds[0]
        row_values = strides[0]
        row_bounds, row_shape = bounds[1:], entry.shape[1:]
        if row_values * entry.dtype.itemsize > _SHORT_ROW_BYTES:
            row_entry = dataclasses.replace(entry, shape=row_shape)
            for row in range(start, stop):
                begin = entry.begin + row * row_values * entry.dtype.itemsize
                self._read_box(dataclasses.replace(row_entry, begin=begin), row_bounds, result[row - start])
            return
        rows_per_block = max(1, _BLOCK_BYTES // (row_values * entry.dtype.itemsize))
        columns = tuple(slice(*bound) for bound in row_bounds)
        for row in range(start, stop, rows_per_block):
            last = min(stop, row + rows_per_block)
            block = np.empty((last - row, *row_shape), entry.dtype)
            self._read_flat(entry, row * row_values, block.reshape(-1))
            result[row - start : last - start] = block[(slice(None), *columns)]

    def _read_flat(self, entry: TensorEntry, first: int, values: np.ndarray) -> None:
        """Fills a flat array with values from number `first` of the tensor on."""
        self._fill(memoryview(values.view(np.uint8)), entry.begin + first * entry.dtype.itemsize)

    def _fill(self, buffer: memoryview, offset: int) -> None:
        found = self._bytes.read_into(buffer, offset)
        if found < len(buffer):
            raise WeightsError(f"{self.path}: the file became shorter while it was read: expected at least "
                               f"{offset + len(buffer)} bytes, found {offset + found}; copy it again.")

    def _size(self) -> int:
        try:
            if self.path.is_dir():
                raise WeightsError(f"{self.path}: expected a safetensors file, found a directory.")
            return self._bytes.size
        except FileNotFoundError as error:
            raise WeightsError(f"{self.path}: no such file.") from error
        except PermissionError as error:
            raise WeightsError(f"{self.path}: may not be read ({error.strerror}); check its permissions.") from error

    def _read_header(self) -> tuple[dict[str, TensorEntry], dict[str, str]]:
        if self.size < 8:
            raise WeightsError(
                f"{self.path}: not a safetensors file: expected at least 8 bytes, found {self.size}; "
                "the copy may have been cut off. Copy it again."
            )
        length_bytes = bytearray(8)
        self._fill(memoryview(length_bytes), 0)
        if length_bytes == _LFS_POINTER:
            raise WeightsError(f"{self.path}: a git-lfs pointer, which stands for the file; fetch that with `git lfs "
                               "pull`, or download it.")
        length = int.from_bytes(length_bytes, "little")
        if length > MAX_HEADER_BYTES:
            raise WeightsError(
                f"{self.path}: not a safetensors file: it would have a header of {length} bytes (expected "
                f"at most {MAX_HEADER_BYTES}). Only safetensors files are read; convert pickled weights "
                "elsewhere first."
            )
        if length > self.size - 8:
            raise WeightsError(
                f"{self.path}: not a safetensors file, or cut off: the header needs {8 + length} bytes, "
                f"the file has {self.size}. Copy it again."
            )
        text = bytearray(length)
        self._fill(memoryview(text), 8)
        header = _parse_json(text, str(self.path))
        return _check_header(header, 8 + length, self.size, str(self.path))


def region_bounds(shape: tuple[int, ...], region: Region | None) -> list[tuple[int, int]]:
    """First and last (exclusive) index per dimension of a region."""
    region = region or ()
    if len(region) > len(shape):
        raise ValueError(f"A region of {len(region)} slices was asked for in a tensor of shape {shape}.")
    bounds = []
    for dim, size in enumerate(shape):
        start, stop, step = (region[dim] if dim < len(region) else slice(None)).indices(size)
        if step != 1:
            raise ValueError(f"Regions have steps of 1; found {step}.")
        bounds.append((start, max(start, stop)))
    return bounds


def is_contiguous(shape: tuple[int, ...], bounds: Sequence[tuple[int, int]]) -> bool:
    """Whether a region of a tensor lies in one piece: behind its first dimension of several indices all are whole."""
    split = len(shape)
    while split > 0 and bounds[split - 1] == (0, shape[split - 1]):
        split -= 1
    return all(stop - start == 1 for start, stop in bounds[: max(split - 1, 0)])


def layer_boxes(shape: tuple[int, ...], stacked: bool) -> Iterator[Region]:
    """One region per index of the leading axis, or one for everything."""
    for layer in range(shape[0]) if stacked else ():
        yield (slice(layer, layer + 1), *(slice(0, size) for size in shape[1:]))
    if not stacked:
        yield tuple(slice(0, size) for size in shape)


def _parse_json(text: bytearray, file: str) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise WeightsError(f"{file}: not a safetensors file: expected a header that starts with '{{', "
                           f"found {bytes(text[:8])!r}. Only safetensors files are read.")
    try:
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise WeightsError(f"{file}: the header is not valid JSON ({reason}); the file is damaged. "
                           "Copy it again.") from error


def _check_header(
    header: dict[str, Any], data_begin: int, file_size: int, file: str
) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    metadata = header.pop("__metadata__", None) or {}
    problems = [f"tensor {name!r}: expected a name of valid Unicode" for name in header if not _is_text(name)]
    if not isinstance(metadata, dict) or not all(_is_text(part) for item in metadata.items() for part in item):
        problems.append(f"field '__metadata__': expected an object of strings, found {_brief(metadata)}")
    entries = {name: _entry(fields, data_begin) for name, fields in header.items()}
    tensors = {name: entry for name, entry in entries.items() if entry is not None}
    problems += [f"tensor '{name}': expected a dtype of {', '.join(DTYPES)}, a shape, and data_offsets that agree with "
                 f"both, found {_brief(header[name])}" for name, entry in entries.items() if entry is None]
    raise_together(f"{file}: not a valid safetensors file", problems)
    position = data_begin
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:  # bits of the header that fell over would move weights, without a word
            raise WeightsError(f"{file}: tensor '{name}': expected to begin at byte {position}, where the one before "
                               f"it ends, found {entry.begin}; the file is damaged. Copy it again.")
        if entry.end > file_size:
            raise WeightsError(f"{file}: is truncated: expected {max(entry.end for entry in tensors.values())} bytes, "
                               f"found {file_size}, which end in tensor '{name}'; copy the file again.")
        position = entry.end
    if position < file_size:
        raise WeightsError(f"{file}: expected {position} bytes, found {file_size}: {file_size - position} bytes behind "
                           "the last tensor belong to none; copy the file again.")
    return tensors, metadata


def _entry(fields: Any, data_begin: int) -> TensorEntry | None:
    """Where a tensor lies; None where the header does not say so, or contradicts itself."""
    match fields:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]}:
            known = dtype in DTYPES and _is_counts([*shape, begin, end]) and len(shape) <= _MAX_RANK
            if known and end - begin == math.prod(shape) * DTYPES[dtype].itemsize:
                return TensorEntry(DTYPES[dtype], tuple(shape), data_begin + begin, data_begin + end)
    return None


def _is_counts(values: list[Any]) -> bool:
    # Bounded, so that products stay printable and fit what an array can be asked for.
    return all(type(value) is int and 0 <= value < 2**62 for value in values)


def _is_text(value: Any) -> bool:
    # JSON can spell half of a surrogate pair, which no file name, log or copy of the header can hold.
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _brief(value: Any) -> str:
    try:
        text = json.dumps(value)
    except ValueError:  # an integer too long to print
        return type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."
