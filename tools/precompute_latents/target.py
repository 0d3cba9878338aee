"""A directory of records with latents while it is made. A finished shard stays, whatever ends the process.

    latents.json      what the shards are made with, while some of them are missing
    NAME-*.tfrecord   .index  .json    as of any set of records; a shard with its sidecar is finished
    manifest.json     written last, by the process that finishes the last shard
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.data.errors import DataError, ImageError, SchemaError
from srum_jax.data.example_proto import encode_record
from srum_jax.data.manifest import (
    MANIFEST,
    SHARDS_FILE,
    Manifest,
    finish_records,
    refuse_other_records,
    sidecar_path,
)
from srum_jax.data.records_source import read_manifest
from srum_jax.data.schema import RewardRecord
from srum_jax.data.shard_writer import ShardWriter
from srum_jax.data.tfrecord import INDEX_SUFFIX
from srum_jax.data.writer import check_image
from srum_jax.stages import noted
from srum_jax.storage import atomic_file, object_store
from srum_jax.storage.errors import AccessError, WriteError

SETTINGS_FILE = "latents.json"
_SAME = ("file", "num_records", "first_id", "last_id")  # in the sidecars of a shard and of the one it was made from
_BESIDE_SHARDS = (SETTINGS_FILE, MANIFEST, SHARDS_FILE, "features.json", "dataset_info.json")
_READING = 32  # sidecars of a bucket at the same time


@dataclasses.dataclass(frozen=True)
class Placed:
    """A record and where it was read."""

    record: RewardRecord
    file: str
    number: int

    def error(self, reason: Exception) -> DataError:
        """What is wrong with it."""
        return DataError(self.file, self.number, str(reason))


class Target:
    """The new directory: one shard for each shard of a set, with the same records.

    Args:
      source: manifest of the set.
      source_sidecars: of its shards.
      out: where to write.
      settings: of the encoder and of what it is given.

    Attributes:
      manifest: once the directory is finished, which it may be from the beginning.

    Raises:
      DataError: `out` holds other records, a damaged manifest, or cannot be reached for want of a package.
      BadInput: `out` was begun, or made, with another set or other settings; lists the differences.
      WriteError, OSError: it cannot be written or read.
    """

    def __init__(self, source: Manifest, source_sidecars: Sequence[Mapping[str, Any]], out: epath.PathLike,
                 settings: Mapping[str, Any]):
        self.out = epath.Path(out)
        self._source, self._source_sidecars, self._settings = source, source_sidecars, dict(settings)
        self._paths = [self.out / sidecar["file"] for sidecar in source_sidecars]
        self._finished: dict[int, dict[str, Any]] = {}  # sidecars of the shards that are known to be finished
        object_store.require_driver(self.out)
        self.manifest = self._made_before()
        if self.manifest is None:
            try:
                self._begin()
            except (DataError, FileNotFoundError):
                self.manifest = self._made_before()  # another process may have finished it just now
                if self.manifest is None:
                    raise
        if self.manifest is not None:
            self._tidy_up()

    def _made_before(self) -> Manifest | None:
        object_store.forget_listing(self.out)
        if not object_store.exists(self.out / MANIFEST):
            return None
        manifest = read_manifest(self.out)
        made_with = (manifest.provenance or {}).get("latents")
        if not isinstance(made_with, dict):
            return None  # somebody else's
        noted.raise_differences(self.out / MANIFEST, made_with, self._settings,
                                "Use another --out, or the same settings.")
        return manifest

    def _begin(self) -> None:
        refuse_other_records(self.out, self._paths)
        if object_store.is_local(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        path, listing = self.out / SETTINGS_FILE, self._listing()
        if path.name not in listing:
            there = sorted(listing.keys() & {shard.name for shard in self._paths})
            if there:
                raise DataError(os.fspath(self.out), None, f"holds {len(there)} shards ({there[0]}, ...) and no "
                                                           f"{SETTINGS_FILE}; choose another folder")
        try:
            noted.note(path, self._settings)
        except WriteError as error:
            raise error.__cause__ if isinstance(error.__cause__, AccessError) else error from None

    def _listing(self) -> dict[str, int]:
        try:
            return object_store.sizes(self.out)
        except FileNotFoundError:  # a folder of a bucket is there when something lies in it
            return {}

    def missing(self, shards: Iterable[int]) -> list[int]:
        """Those of some shards that are not finished. Other processes may be finishing them.

        Raises:
          OSError: the directory cannot be read.
        """
        unknown = [number for number in shards if number not in self._finished]
        if unknown:
            listing = self._listing()
            with concurrent.futures.ThreadPoolExecutor(_READING) as threads:  # each waits for the network
                found = threads.map(lambda number: self._sidecar(number, listing), unknown)
                self._finished.update((n, sidecar) for n, sidecar in zip(unknown, found, strict=True) if sidecar)
        return [number for number in unknown if number not in self._finished]

    def _sidecar(self, number: int, listing: Mapping[str, int]) -> dict[str, Any] | None:
        """That of a finished shard. The shard is not read: its readers find flipped bits by their checksums."""
        path, of_source = self._paths[number], self._source_sidecars[number]
        if sidecar_path(path).name not in listing:
            return None
        try:
            found = json.loads(object_store.read_bytes(sidecar_path(path)))
            whole = (all(found[name] == of_source.get(name, found[name]) for name in _SAME)
                     and isinstance(found["sha256"], str) and isinstance(found["num_rejects"], dict)
                     and listing.get(path.name) == found["num_bytes"]
                     and listing.get(path.name + INDEX_SUFFIX) == 8 * (found["num_records"] + 1))
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return found if whole else None

    def write(self, number: int, records: Iterator[Placed]) -> None:
        """Writes a shard.

        Args:
          number: of the shard.
          records: as many as it has are taken, in the shard's order.

        Raises:
          DataError: a record may not be stored, or the records end too early.
          WriteError, OSError: a file cannot be written or removed.
        """
        of_source, path = self._source_sidecars[number], self._paths[number]
        with self._folder_of_temporary_files() as folder:
            writer = ShardWriter(path, folder)
            try:
                _copy(itertools.islice(records, of_source["num_records"]), writer)
                if writer.num_records != of_source["num_records"]:
                    raise DataError(os.fspath(path), None, f"expected {of_source['num_records']} records, found "
                                                           f"{writer.num_records}")
                self._finished[number] = self._publish(number, writer)
            finally:
                writer.discard()

    @contextlib.contextmanager
    def _folder_of_temporary_files(self) -> Iterator[epath.Path]:
        if object_store.is_local(self.out):
            yield self.out
        else:
            with tempfile.TemporaryDirectory(prefix="srum-records-") as spool:
                yield epath.Path(spool)

    def _publish(self, number: int, writer: ShardWriter) -> dict[str, Any]:
        """Gives a shard its name, unless it is there: somebody may have done the same work, by mistake."""
        listing = self._listing()
        found = self._sidecar(number, listing)
        if found is not None:
            return found
        sidecar = sidecar_path(self._paths[number])
        if sidecar.name in listing:
            object_store.remove(sidecar)  # until the new one is there, it must not vouch for new bytes
        return writer.commit(self._source_sidecars[number].get("num_rejects", {}))

    def finish(self) -> Manifest:
        """Writes the manifest once no shard is missing. Several processes may do so at the same time.

        Raises:
          WriteError, OSError: it cannot be written.
        """
        try:
            self.manifest = finish_records(
                self.out, self._source.name, [self._finished[number] for number in range(len(self._paths))],
                provenance={**(self._source.provenance or {}), "latents": self._settings},
                settings={"records_settings_sha256": self._source.settings_sha256, "latents": self._settings},
                num_prompts=self._source.counts.get("prompts"))
        except WriteError:
            self.manifest = self._made_before()  # who was faster has tidied up our temporary files
            if self.manifest is None:
                raise
        self._tidy_up()
        return self.manifest

    def _tidy_up(self) -> None:
        """Removes what killed processes left, now that nobody can need it."""
        with contextlib.suppress(OSError):
            object_store.remove(self.out / SETTINGS_FILE)
            starts = tuple(f".{name}" for name in (*_BESIDE_SHARDS, *(path.stem for path in self._paths)))
            for path in self.out.iterdir() if object_store.is_local(self.out) else ():
                if path.name.startswith(starts) and atomic_file.PARTIAL_MARK in path.name:
                    path.unlink(missing_ok=True)


def _copy(records: Iterator[Placed], writer: ShardWriter) -> None:
    last = (-1, -1)
    for placed in records:
        place = (placed.record.index, placed.record.candidate)
        try:
            if place <= last:
                raise SchemaError("record/index", f"(index, candidate) above {last}", str(place))
            check_image(placed.record)
            writer.write(placed.record, encode_record(placed.record))
        except (SchemaError, ImageError) as error:
            raise placed.error(error) from error
        last = place
