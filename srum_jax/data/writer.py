"""Writes reward records: shards that take records in turns, and all that makes them a set.

What lies in the directory: `srum_jax.data.manifest`.
"""

import collections
import hashlib
import math
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from srum_jax.data.errors import DuplicateIdError, SchemaError
from srum_jax.data.example_proto import encode_record
from srum_jax.data.image_transform import read_header
from srum_jax.data.manifest import Manifest, finish_records, refuse_other_records, shard_name
from srum_jax.data.schema import RewardRecord
from srum_jax.data.shard_writer import ShardWriter
from srum_jax.storage import object_store

TARGET_SHARD_BYTES = 512 << 20
LARGE_TARGET_SHARD_BYTES = 2 << 30  # above 10 TB


def num_shards_for(num_bytes: int, num_records: int) -> int:
    """Shards for a set of this size: the next power of two that keeps each below the target, at most one a record."""
    target = TARGET_SHARD_BYTES if num_bytes <= 10 << 40 else LARGE_TARGET_SHARD_BYTES
    needed = max(4, math.ceil(num_bytes / target))
    return min(1 << (needed - 1).bit_length(), max(num_records, 1))


def record_of_image(encoded: bytes, **fields: Any) -> RewardRecord:
    """A RewardRecord whose format, size and checksum are taken from the image file itself.

    Raises:
      ImageError: the bytes are not an image.
    """
    header = read_header(encoded)
    return RewardRecord(image_encoded=encoded, image_format=header.format, image_width=header.width,
                        image_height=header.height, image_sha256=hashlib.sha256(encoded).digest(), **fields)


def check_image(record: RewardRecord) -> None:
    """Compares a record's image fields with its image bytes.

    Raises:
      ImageError: the bytes are not an image.
      SchemaError: format, size or checksum differ.
    """
    header = read_header(record.image_encoded)
    for field, stated, found in (("image/format", record.image_format, header.format),
                                 ("image/width", record.image_width, header.width),
                                 ("image/height", record.image_height, header.height)):
        if stated != found:
            raise SchemaError(field, f"{found!r}, as in the image's header", repr(stated))
    if hashlib.sha256(record.image_encoded).digest() != record.image_sha256:
        raise SchemaError("image/sha256", "the SHA-256 of image/encoded", record.image_sha256.hex())


class RecordWriter:
    """Writes one directory of records. Use as a context manager; nothing that loads exists before `close`.

    Record i goes to shard `i mod num_shards`, so records that lie together in the source are spread. Leaving the block
    with an error removes what was written.

    In a bucket nothing can be appended to an object: shards are then collected in a folder of the local disk (the one
    that `TMPDIR` names, or `/tmp`), which needs room for the whole set, and uploaded by `close`.

    Args:
      directory: where to write; made if absent. It must not hold records already.
      name: starts the file names; letters, digits, `-`, `_` and `.`.
      num_shards: fixed for the whole set.
      provenance: stored in the manifest; equal inputs must give equal values.
      settings: likewise, only its hash is stored.

    Raises:
      DataError: the directory holds other records.
      ValueError: a bad name or number of shards.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        name: str,
        num_shards: int,
        provenance: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        if num_shards < 1:
            raise ValueError(f"num_shards: expected a positive integer, found {num_shards}.")
        if not name or not all(c.isalnum() or c in "-_." for c in name) or not name[0].isalnum():
            raise ValueError(f"name: expected letters, digits, '-', '_' and '.', found {name!r}.")
        self.directory = epath.Path(directory)
        self.name, self.num_shards = name, num_shards
        self.provenance, self.settings = dict(provenance or {}), dict(settings or {})
        self._paths = [self.directory / shard_name(name, shard, num_shards) for shard in range(num_shards)]
        object_store.require_driver(self.directory)
        refuse_other_records(self.directory, self._paths)
        self._closed, self._spool = False, None
        if object_store.is_local(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        else:
            self._spool = tempfile.TemporaryDirectory(prefix="srum-records-")
        self._shards: dict[int, ShardWriter] = {}
        self._last = (-1, -1)
        self._ids: set[bytes] = set()
        self._rejected: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def write(self, record: RewardRecord) -> None:
        """Adds a record; they must come in increasing order of (index, candidate).

        Raises:
          SchemaError: a field is wrong, or the id was used before.
          ImageError: its image has no readable header.
        """
        place = (record.index, record.candidate)
        if place <= self._last:
            raise SchemaError("record/index", f"(index, candidate) above {self._last}", str(place))
        identity = hashlib.sha256(record.record_id.encode()).digest()[:16]
        if identity in self._ids:
            raise DuplicateIdError("record/id", "an id that is used once", repr(record.record_id))
        check_image(record)
        data = encode_record(record)
        number = record.index % self.num_shards
        self._shard(number).write(record, data)
        self._last = place
        self._ids.add(identity)

    def _shard(self, number: int) -> ShardWriter:
        if number not in self._shards:
            folder = self.directory if self._spool is None else epath.Path(self._spool.name)
            self._shards[number] = ShardWriter(self._paths[number], folder)
        return self._shards[number]

    @property
    def num_records(self) -> int:
        """Records so far."""
        return sum(shard.num_records for shard in self._shards.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards so far."""
        return sum(shard.num_bytes for shard in self._shards.values())

    def reject(self, index: int, reason: str) -> None:
        """Counts a record that was offered and left out, so that the manifest accounts for every one."""
        self._rejected[index % self.num_shards][reason] += 1

    def close(self, *, num_prompts: int | None = None) -> Manifest:
        """Puts everything under its final name, the manifest last.

        Args:
          num_prompts: prompts that were offered; None: as many as records were written or rejected.

        Raises:
          DataError: the directory got other records since the writer was made.
        """
        refuse_other_records(self.directory, self._paths)  # another process may have finished meanwhile
        sidecars = [self._shard(number).commit(self._rejected[number]) for number in range(self.num_shards)]
        manifest = finish_records(self.directory, self.name, sidecars, provenance=self.provenance,
                                  settings=self.settings, num_prompts=num_prompts)
        self._closed = True
        self._clean_spool()
        return manifest

    def _clean_spool(self) -> None:
        if self._spool is not None:
            self._spool.cleanup()

    def discard(self) -> None:
        """Removes the temporary files."""
        for shard in self._shards.values():
            shard.discard()
        self._clean_spool()

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None:
            self.discard()
        elif not self._closed:
            try:
                self.close()
            except BaseException:
                self.discard()
                raise


def write_records(
    directory: epath.PathLike,
    records: Iterable[RewardRecord],
    *,
    name: str = "srum-rewards",
    num_shards: int = 4,
    provenance: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Manifest:
    """Writes all records to a new directory; see RecordWriter. Records may be made while they are written.

    Raises:
      SchemaError, ImageError: a record may not be stored; nothing is left behind.
      DataError: the directory holds other records.
    """
    with RecordWriter(directory, name=name, num_shards=num_shards, provenance=provenance, settings=settings) as writer:
        for record in records:
            writer.write(record)
        return writer.close()
