"""Writing safetensors files piece by piece: the header is known in advance, tensors arrive in any order."""

import json
import math
import os
from collections.abc import Mapping
from typing import Self

import numpy as np
from etils import epath

from srum_jax.storage.atomic_file import AtomicFile
from srum_jax.weights.dtypes import NAMES
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.safetensors_read import Region, is_contiguous, region_bounds


class SafetensorsWriter:
    """One file, written at offsets; it gets its name when it is complete.

    As a context manager: leaving it normally completes the file, leaving it by an exception removes it.
    """

    def __init__(
        self,
        path: epath.PathLike,
        tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
        metadata: Mapping[str, str] | None = None,
    ):
        """Writes the header and reserves the file.

        Args:
          path: local file to be made.
          tensors: dtype and shape of each tensor, in the order in which they lie in the file.
          metadata: free text fields of the header.

        Raises:
          OSError: the disk has no room for the whole file; nothing is left behind.
        """
        self.path = epath.Path(path)
        self._tensors = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in tensors.items()}
        header = header_bytes(self._tensors, metadata)
        self._begin: dict[str, int] = {}
        self._missing: dict[str, int] = {}  # values not written yet
        position = len(header)
        for name, (dtype, shape) in self._tensors.items():
            self._begin[name] = position
            self._missing[name] = math.prod(shape)
            position += math.prod(shape) * dtype.itemsize
        self.size = position
        self._whole = AtomicFile(self.path)
        self._file = self._whole.file
        try:
            self._file.write(header)
            self._file.flush()
            # Not only its length: a disk that fills up later would end a write through the memory map by SIGBUS.
            os.posix_fallocate(self._file.fileno(), 0, self.size)
        except BaseException:
            self.discard()
            raise

    def write(self, name: str, values: np.ndarray, region: Region | None = None) -> None:
        """Writes one region of one tensor; regions must not overlap.

        Args:
          name: of the tensor.
          values: of the tensor's dtype and the region's shape.
          region: where it goes; one slice of step 1 per dimension, None for the whole tensor.
        """
        dtype, shape = self._tensors[name]
        bounds = region_bounds(shape, region)
        box = tuple(stop - start for start, stop in bounds)
        if values.dtype != dtype or values.shape != box:
            raise ValueError(f"{self.path}: tensor '{name}': expected {dtype} {box}, "
                             f"found {values.dtype} {values.shape}.")
        self._missing[name] -= values.size
        if not values.size:
            return
        if is_contiguous(shape, bounds):
            strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
            first = sum(start * stride for (start, _), stride in zip(bounds, strides, strict=True))
            data = memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
            offset, done = self._begin[name] + first * dtype.itemsize, 0
            while done < len(data):
                done += os.pwrite(self._file.fileno(), data[done:], offset + done)
        else:
            target = np.memmap(self._file, dtype, "r+", offset=self._begin[name], shape=shape)
            target[tuple(slice(*bound) for bound in bounds)] = values

    def close(self) -> None:
        """Gives the file its name, once all of it is on disk.

        Raises:
          WeightsError: if a tensor was not written completely; nothing is left behind.
        """
        missing = [name for name, count in self._missing.items() if count != 0]
        if missing:
            self.discard()
            raise WeightsError(f"{self.path}: {len(missing)} tensors were not written exactly once, "
                               f"for instance '{missing[0]}' ({self._missing[missing[0]]} values short).")
        self._whole.commit()

    def discard(self) -> None:
        """Removes what was written."""
        self._whole.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def header_bytes(
    tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Length and header of a file that holds the given tensors in the given order, padded to 8 bytes."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (dtype, shape) in tensors.items():
        end = position + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
