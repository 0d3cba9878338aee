"""Writes reward records: striped TFRecord shards, checksums, manifest, and what tensorflow_datasets needs.

    NAME-00000-of-00016.tfrecord  .index  .json     data, byte offsets, counts and checksum
    shards.jsonl                                    all sidecars
    dataset_info.json  features.json                for tensorflow_datasets.builder_from_directory
    manifest.json                                   written last: without it the directory does not load
"""

import collections
import contextlib
import dataclasses
import hashlib
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from srum_jax.data import atomic_file, object_store, tfds_metadata
from srum_jax.data.errors import DataError, SchemaError, WriteError
from srum_jax.data.example_proto import encode_record
from srum_jax.data.image_transform import read_header
from srum_jax.data.schema import SCHEMA_VERSION, RewardRecord, canonical_json
from srum_jax.data.shard_statistics import ShardStatistics
from srum_jax.data.tfrecord import INDEX_SUFFIX, frame

MANIFEST = "manifest.json"
SHARDS_FILE = "shards.jsonl"
MAX_OPEN_FILES = 128
TARGET_SHARD_BYTES = 512 << 20
LARGE_TARGET_SHARD_BYTES = 2 << 30  # above 10 TB


def num_shards_for(num_bytes: int, num_records: int) -> int:
    """Shards for a set of this size: the next power of two that keeps each below the target, at most one a record."""
    target = TARGET_SHARD_BYTES if num_bytes <= 10 << 40 else LARGE_TARGET_SHARD_BYTES
    needed = max(4, math.ceil(num_bytes / target))
    return min(1 << (needed - 1).bit_length(), max(num_records, 1))


def shard_name(name: str, shard: int, num_shards: int) -> str:
    """File name of one shard."""
    digits = max(5, len(str(num_shards)))
    return f"{name}-{shard:0{digits}d}-of-{num_shards:0{digits}d}.tfrecord"


def record_of_image(encoded: bytes, **fields: Any) -> RewardRecord:
    """A RewardRecord whose format, size and checksum are taken from the image file itself.

    Raises:
      ImageError: the bytes are not an image.
    """
    header = read_header(encoded)
    return RewardRecord(image_encoded=encoded, image_format=header.format, image_width=header.width,
                        image_height=header.height, image_sha256=hashlib.sha256(encoded).digest(), **fields)


def check_image(record: RewardRecord, checksum: bool = True) -> None:
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
    if checksum and hashlib.sha256(record.image_encoded).digest() != record.image_sha256:
        raise SchemaError("image/sha256", "the SHA-256 of image/encoded", record.image_sha256.hex())


class _Shard:
    """One shard being written: a temporary file, its offsets and running sums.

    Args:
      path: of the shard.
      folder: where the temporary file lies: beside the shard, or on the local disk.
    """

    def __init__(self, path: epath.Path, folder: epath.Path):
        self.path, self.temporary = path, folder / atomic_file.partial_name(path).name
        # Opened by whoever already knows this shard: an interruption at any moment leaves no file that nobody removes.
        self.file = None
        self.offsets = [0]
        self.digest = hashlib.sha256()
        self.statistics = ShardStatistics()

    def write(self, record: RewardRecord, data: bytes) -> None:
        framed = frame(data)
        with self._writing(self.offsets[-1] + len(framed)):
            self.open()
            self.file.write(framed)
        self.digest.update(framed)
        self.offsets.append(self.offsets[-1] + len(framed))
        self.statistics.add(record)

    def open(self) -> None:
        """Opens the temporary file, at its end, if it is not open."""
        if self.file is None:
            self.file = self.temporary.open("ab")

    def suspend(self) -> None:
        """Gives the file descriptor back."""
        if self.file is not None:
            with self._writing(self.offsets[-1]):
                atomic_file.sync(self.file)
                self.file.close()
            self.file = None

    def commit(self) -> dict[str, Any]:
        """Puts data and index under their names; returns what is known of them."""
        with self._writing(self.offsets[-1]):
            self.open()  # a shard without records is an empty file
            self.suspend()
            if object_store.is_local(self.path):
                self.temporary.replace(self.path)
            else:
                object_store.put_file(self.path, self.temporary)
                self.temporary.unlink()
        atomic_file.write_bytes(os.fspath(self.path) + INDEX_SUFFIX, np.asarray(self.offsets, "<u8").tobytes())
        return {
            "file": self.path.name,
            "num_records": len(self.offsets) - 1,
            "num_bytes": self.offsets[-1],
            "sha256": self.digest.hexdigest(),
            **self.statistics.to_json(),
        }

    def discard(self) -> None:
        # On a full disk both may fail again; the first error is the one to be told.
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()
            self.file = None
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self, num_bytes: int) -> Iterator[None]:
        try:
            yield
        except WriteError:
            raise
        except OSError as error:
            raise WriteError(os.fspath(self.path), num_bytes, error) from error


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Content of `manifest.json`."""

    name: str
    num_shards: int
    num_records: int
    num_bytes: int
    counts: dict[str, Any]
    settings_sha256: str
    provenance: dict[str, Any]
    shards_sha256: str  # of shards.jsonl; identifies the whole set
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        values = dataclasses.asdict(self)
        return values | {"shards_file": SHARDS_FILE}


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
        self._refuse_other_records()
        self._closed, self._spool = False, None
        if object_store.is_local(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        else:
            self._spool = tempfile.TemporaryDirectory(prefix="srum-records-")
        self._shards: dict[int, _Shard] = {}
        self._open: collections.OrderedDict[int, None] = collections.OrderedDict()
        self._last = (-1, -1)
        self._ids: set[bytes] = set()
        self._rejected: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def _refuse_other_records(self) -> None:
        object_store.forget_listing(self.directory)
        if not self.directory.exists():
            return
        if (self.directory / MANIFEST).exists():
            raise DataError(os.fspath(self.directory), None,
                            f"holds finished records already ({MANIFEST}); there is no overwrite, choose another "
                            "folder")
        ours = {path.name for path in self._paths}
        others = sorted(path.name for path in self.directory.glob("*.tfrecord") if path.name not in ours)
        if others:
            raise DataError(os.fspath(self.directory), None,
                            f"holds {len(others)} shards of something else ({others[0]}, ...); choose another folder")

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
            raise SchemaError("record/id", "an id that is used once", repr(record.record_id))
        check_image(record)
        data = encode_record(record)
        number = record.index % self.num_shards
        self._shard(number).write(record, data)
        self._last = place
        self._ids.add(identity)

    def _shard(self, number: int) -> _Shard:
        if number not in self._shards:
            folder = self.directory if self._spool is None else epath.Path(self._spool.name)
            self._shards[number] = _Shard(self._paths[number], folder)
        self._open[number] = None
        self._open.move_to_end(number)
        if len(self._open) > MAX_OPEN_FILES:
            oldest, _ = self._open.popitem(last=False)
            self._shards[oldest].suspend()
        return self._shards[number]

    @property
    def num_records(self) -> int:
        """Records so far."""
        return sum(len(shard.offsets) - 1 for shard in self._shards.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards so far."""
        return sum(shard.offsets[-1] for shard in self._shards.values())

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
        self._refuse_other_records()  # another process may have finished meanwhile
        rejected = dict(sorted(sum(self._rejected.values(), collections.Counter()).items()))
        sidecars = []
        for number in range(self.num_shards):
            sidecar = self._shard(number).commit()
            sidecar["num_rejects"] = dict(sorted(self._rejected[number].items()))
            atomic_file.write_json(os.fspath(self._paths[number].with_suffix(".json")), sidecar)
            sidecars.append(sidecar)
        shards_text = "".join(canonical_json(sidecar) + "\n" for sidecar in sidecars)
        atomic_file.write_text(self.directory / SHARDS_FILE, shards_text)
        lengths = [sidecar["num_records"] for sidecar in sidecars]
        num_records, num_bytes = sum(lengths), sum(sidecar["num_bytes"] for sidecar in sidecars)
        atomic_file.write_json(self.directory / "features.json", tfds_metadata.features())
        atomic_file.write_json(self.directory / "dataset_info.json",
                               tfds_metadata.dataset_info(self.name, lengths, num_bytes))
        candidates = num_records + sum(rejected.values())
        manifest = Manifest(
            name=self.name,
            num_shards=self.num_shards,
            num_records=num_records,
            num_bytes=num_bytes,
            counts={"prompts": candidates if num_prompts is None else num_prompts, "candidates": candidates,
                    "exported": num_records, "rejected": rejected},
            settings_sha256=hashlib.sha256(canonical_json(self.settings).encode()).hexdigest(),
            provenance=self.provenance,
            shards_sha256=hashlib.sha256(shards_text.encode()).hexdigest(),
        )
        atomic_file.write_json(self.directory / MANIFEST, manifest.to_json())
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
