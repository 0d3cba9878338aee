"""TFRecord files with random access, without TensorFlow.

    uint64 length · uint32 masked CRC-32C of those 8 bytes · payload · uint32 masked CRC-32C of the payload

all little-endian. Beside `NAME.tfrecord` lies `NAME.tfrecord.index`: uint64 byte offset of every record, then the size
of the file. Any single flipped bit of a record is found when it is read; a file of the wrong length when it is opened.
"""

import os
import struct
from collections.abc import Mapping

import google_crc32c
import numpy as np
from etils import epath

from srum_jax.data.errors import DataError
from srum_jax.storage import object_store
from srum_jax.storage.ranges import RangeReader

HEADER_BYTES = 12
FOOTER_BYTES = 4
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES
INDEX_SUFFIX = ".index"
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated and shifted so that the checksum of data that holds checksums stays useful."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """The bytes that store one record."""
    length = struct.pack("<Q", len(payload))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), payload,
                     struct.pack("<I", masked_crc32c(payload))))


def unframe(data: bytes, file: str, record_number: int, offset: int) -> bytes:
    """The payload of exactly one framed record.

    Args:
      data: all bytes of the record.
      file: for messages.
      record_number: likewise.
      offset: of the record in the file, bytes; likewise.

    Raises:
      DataError: the frame is too short, of another length than it states, or a checksum does not hold.
    """
    if len(data) < FRAME_BYTES:
        raise DataError(file, record_number, f"truncated: expected at least {FRAME_BYTES} bytes, found {len(data)}")
    length = data[:8]
    if masked_crc32c(length) != struct.unpack_from("<I", data, 8)[0]:
        raise DataError(file, record_number, f"checksum of the record's length does not hold (at byte {offset}): the "
                                             "file is damaged")
    size = struct.unpack("<Q", length)[0]
    if size + FRAME_BYTES != len(data):
        raise DataError(file, record_number, f"expected {len(data) - FRAME_BYTES} payload bytes (from the index), "
                                             f"found a length of {size}")
    payload = data[HEADER_BYTES:-FOOTER_BYTES]
    if masked_crc32c(payload) != struct.unpack("<I", data[-FOOTER_BYTES:])[0]:
        raise DataError(file, record_number, f"checksum of the payload does not hold (at byte {offset}): the file is "
                                             "damaged")
    return payload


def scan_offsets(path: epath.PathLike) -> np.ndarray:
    """Offsets of all records and the file size, from the record headers alone: uint64 [records + 1].

    Raises:
      DataError: a header is damaged, or the file ends inside a record.
      OSError: it cannot be read.
    """
    path = epath.Path(path)
    offsets = [0]
    with object_store.os_errors(path), path.open("rb") as file:
        size = path.stat().length
        while offsets[-1] < size:
            number = len(offsets) - 1
            file.seek(offsets[-1])
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                raise DataError(os.fspath(path), number, f"truncated: the file ends at byte {size}, inside a header")
            if masked_crc32c(header[:8]) != struct.unpack_from("<I", header, 8)[0]:
                raise DataError(os.fspath(path), number, "checksum of the record's length does not hold"
                                                         f" (at byte {offsets[-1]}): the file is damaged")
            end = offsets[-1] + struct.unpack_from("<Q", header)[0] + FRAME_BYTES
            if end > size:
                raise DataError(os.fspath(path), number,
                                f"truncated: the record ends at byte {end}, the file at {size}")
            offsets.append(end)
    return np.asarray(offsets, np.uint64)


class TFRecordFile:
    """One shard: `len(file)`, `file[i]`.

    Offsets are read at once and kept (8 bytes a record), so that a record costs one request.

    Args:
      path: the `.tfrecord` file. Where its index is missing, the record headers are scanned instead.
      num_bytes: size that is expected, or None where it is not known.
      listing: bytes of every file of its directory by name, where they are known: saves requests.

    Raises:
      DataError: the file is absent, of another size than expected or than its index says, or damaged.
    """

    def __init__(self, path: epath.PathLike, num_bytes: int | None = None, listing: Mapping[str, int] | None = None):
        path = epath.Path(path)
        self.name = os.fspath(path)
        size = _size(path, listing)
        if size is None:
            raise DataError(self.name, None, "no such file; a shard of the record directory is missing")
        if num_bytes is not None and size != num_bytes:
            kind = "truncated" if size < num_bytes else "too long"
            raise DataError(self.name, None, f"{kind}: expected {num_bytes} bytes, found {size}; copy it again")
        self._data, self._size = RangeReader(path), size
        index = epath.Path(self.name + INDEX_SUFFIX)
        index_size = _size(index, listing)
        if index_size is None:
            self._offsets = scan_offsets(path)
            return
        if index_size % 8 or index_size < 8:
            raise DataError(os.fspath(index), None, f"expected a positive multiple of 8 bytes, found {index_size}")
        self._offsets = np.frombuffer(RangeReader(index).read(0, index_size), "<u8")
        if self._offsets[-1] != size:
            kind = "truncated" if size < self._offsets[-1] else "too long"
            raise DataError(self.name, None, f"{kind}: expected {self._offsets[-1]} bytes (from {index.name}), found "
                                             f"{size}; copy it again")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> bytes:
        """The payload of a record.

        Raises:
          DataError: the record is damaged.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"{self.name}: record {number} of {len(self)}")
        start, end = (int(offset) for offset in self._offsets[number : number + 2])
        if not start + FRAME_BYTES <= end <= self._size:
            raise DataError(self.name, number, f"index gives offsets {start} and {end}; delete {INDEX_SUFFIX} to have "
                                               "it rebuilt")
        return unframe(self._data.read(start, end - start), self.name, number, start)

    def close(self) -> None:
        """Gives the file descriptor back; reading opens the file again."""
        self._data.close()


def _size(path: epath.Path, listing: Mapping[str, int] | None) -> int | None:
    """Bytes of a file; None where there is none."""
    if listing is not None:
        return listing.get(path.name)
    with object_store.os_errors(path):
        return path.stat().length if path.exists() else None
