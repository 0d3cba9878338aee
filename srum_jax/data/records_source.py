"""A directory of reward records as one random-access sequence of bytes."""

import bisect
import concurrent.futures
import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from srum_jax.data.errors import DataError
from srum_jax.data.manifest import MANIFEST, SHARDS_FILE, Manifest, shard_name
from srum_jax.data.schema import SCHEMA_VERSION
from srum_jax.data.tfrecord import TFRecordFile
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.storage.errors import AccessError

EXPORT_FOLDER = "export"
_OPENING = 32  # shards of a bucket whose index is read at the same time


class Place(NamedTuple):
    """Where a record lies."""

    shard: int
    record_number: int  # in its shard


def find_records(directory: epath.PathLike) -> epath.Path:
    """The directory that holds the manifest: the one given, or its folder `export`.

    Raises:
      DataError: neither does, or nobody may look.
    """
    directory = epath.Path(directory)
    object_store.require_driver(directory)
    with _accessible(directory):
        for candidate in (directory, directory / EXPORT_FOLDER):
            if object_store.exists(candidate / MANIFEST):
                return candidate
        is_there = object_store.exists(directory)
    if not is_there:
        raise DataError(os.fspath(directory), None, "no such directory; expected reward records (data.records)")
    raise DataError(os.fspath(directory), None, f"no {MANIFEST}: not a directory of records, or writing them did not "
                                                "finish; make them with python -m tools.make_rewards")


def read_manifest(directory: epath.Path) -> Manifest:
    """The manifest of a record directory.

    Raises:
      DataError: it is broken, or of another schema version.
    """
    path = directory / MANIFEST
    values = _read_json(path, object_store.read_bytes(path))
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(os.fspath(path), None, f"field 'schema_version': expected {SCHEMA_VERSION}, found {version!r}")
    fields = {name: values.get(name) for name in Manifest.__dataclass_fields__}
    _check_kinds(path, "", fields, name=str, num_shards=int, num_records=int, num_bytes=int, counts=dict,
                 shards_sha256=str)
    _check_counts(path, "field 'counts.rejected'", fields["counts"].get("rejected", {}))
    return Manifest(**fields)


def read_sidecars(directory: epath.Path, manifest: Manifest) -> list[dict]:
    """File name, counts and checksum of every shard.

    Raises:
      DataError: the list is not the one that belongs to the manifest.
    """
    path = directory / SHARDS_FILE
    if not object_store.exists(path):
        raise DataError(os.fspath(path), None, "no such file; it belongs to the manifest")
    found = file_sha256(path)
    if found != manifest.shards_sha256:
        raise DataError(os.fspath(path), None, f"checksum: expected {manifest.shards_sha256} (from {MANIFEST}), found "
                                               f"{found}; the list of shards was changed or is damaged")
    sidecars = [_read_json(path, line) for line in object_store.read_bytes(path).splitlines()]
    if len(sidecars) != manifest.num_shards:
        raise DataError(os.fspath(path), None, f"expected {manifest.num_shards} shards, found {len(sidecars)}")
    for number, sidecar in enumerate(sidecars):
        file, found = shard_name(manifest.name, number, manifest.num_shards), sidecar.get("file")
        if found != file:
            raise DataError(os.fspath(path), None, f"shard {number}: field 'file': expected {file!r}, found {found!r}")
        _check_kinds(path, f"shard {number}: ", sidecar, num_records=int, num_bytes=int, sha256=str)
        _check_counts(path, f"shard {number}: field 'num_rejects'", sidecar.get("num_rejects", {}))
    return sidecars


def _check_kinds(path: epath.Path, place: str, values: dict, **kinds: type) -> None:
    for name, kind in kinds.items():
        if type(values.get(name)) is not kind:
            raise DataError(os.fspath(path), None, f"{place}field '{name}': expected {kind.__name__}, found "
                                                   f"{values.get(name)!r}")


def _check_counts(path: epath.Path, place: str, rejects: Any) -> None:
    if not isinstance(rejects, dict) or not all(isinstance(count, int) for count in rejects.values()):
        raise DataError(os.fspath(path), None, f"{place}: expected reasons and numbers, found {rejects!r}")


class RecordsSource:
    """`len(source)`, `source.read(i)`. Shards are read in turns, which is the order in which records were written.

    Opening compares the size of every shard with the manifest and with its index, so a truncated one is found before
    training starts; a flipped bit is found when its record is read. Can be sent to another process.

    Raises:
      DataError: naming the file that is absent, incomplete, damaged or not to be read.
    """

    def __init__(self, directory: epath.PathLike):
        self.directory = find_records(directory)
        with _accessible(self.directory):
            self.manifest = read_manifest(self.directory)
            self.shards = _open_shards(self.directory, read_sidecars(self.directory, self.manifest))
        self._build_turns([len(shard) for shard in self.shards])
        if len(self) == 0:
            raise DataError(os.fspath(self.directory), None, "holds no records")

    def _build_turns(self, counts: list[int]) -> None:
        # Shards of unequal length drop out of the turns one level after the other; a level is a range of record
        # numbers over which the same shards take part. No list over records is needed.
        self._level_starts: list[int] = []  # first place of each level
        self._level_numbers: list[int] = []  # first record number of each level
        self._level_shards: list[np.ndarray] = []
        place = low = 0
        lengths = np.asarray(counts)
        for high in sorted(set(counts)):
            if high == low:
                continue
            active = np.flatnonzero(lengths >= high)
            self._level_starts.append(place)
            self._level_numbers.append(low)
            self._level_shards.append(active)
            place, low = place + (high - low) * len(active), high
        self._count = place

    def __len__(self) -> int:
        return self._count

    @property
    def fingerprint(self) -> str:
        """Changes with any byte of any record."""
        return self.manifest.shards_sha256

    def locate(self, place: int) -> Place:
        """The shard and number of the record at a place."""
        if not 0 <= place < self._count:
            raise IndexError(f"record {place} of {self._count}")
        level = bisect.bisect_right(self._level_starts, place) - 1
        active = self._level_shards[level]
        turn, position = divmod(place - self._level_starts[level], len(active))
        return Place(int(active[position]), self._level_numbers[level] + turn)

    def file_of(self, place: int) -> str:
        """Name of the shard."""
        return self.shards[self.locate(place).shard].name

    def read(self, place: int) -> bytes:
        """The stored bytes of the record at a place.

        Raises:
          DataError: the record is damaged.
        """
        shard, number = self.locate(place)
        return self.shards[shard][number]


@contextlib.contextmanager
def _accessible(directory: epath.Path) -> Iterator[None]:
    """A refusal is a matter of settings, which another start will not change; an outage is none, and stays OSError."""
    try:
        yield
    except AccessError as error:
        raise DataError(os.fspath(directory), None,
                        f"the bucket does not let these records be read ({error}); expected credentials with the role "
                        "roles/storage.objectViewer on it: those of the machine's service account, or of "
                        "`gcloud auth application-default login`") from error


def _open_shards(directory: epath.Path, sidecars: list[dict]) -> list[TFRecordFile]:
    listing = None if object_store.is_local(directory) else object_store.sizes(directory)

    def opened(sidecar: dict) -> TFRecordFile:
        shard = TFRecordFile(directory / sidecar["file"], sidecar["num_bytes"], listing)
        if len(shard) != sidecar["num_records"]:
            raise DataError(shard.name, None, f"expected {sidecar['num_records']} records, found {len(shard)}")
        return shard

    if listing is None:
        return [opened(sidecar) for sidecar in sidecars]
    with concurrent.futures.ThreadPoolExecutor(_OPENING) as threads:  # each waits for the network
        return list(threads.map(opened, sidecars))


def _read_json(path: epath.Path, text: bytes) -> dict:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(os.fspath(path), None, f"not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise DataError(os.fspath(path), None, f"expected a JSON object, found {type(values).__name__}")
    return values
