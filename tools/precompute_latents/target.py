"""A directory of records with latents while it is made. A finished shard stays, whatever ends the process.

    latents.json      what the shards are made with, while some of them are missing
    NAME-*.tfrecord   .index  .json    as of any set of records; a shard with its sidecar is finished
    manifest.json     written last, by the process that finishes the last shard
"""

import concurrent.futures
import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from srum_jax.data import atomic_file, object_store
from srum_jax.data.errors import DataError, ImageError, SchemaError
from srum_jax.data.example_proto import encode_record
from srum_jax.data.manifest import MANIFEST, Manifest, finish_records, refuse_other_records, sidecar_path
from srum_jax.data.records_source import RecordsSource, read_manifest, read_sidecars
from srum_jax.data.shard_writer import ShardWriter
from srum_jax.data.tfrecord import INDEX_SUFFIX
from srum_jax.data.writer import check_image
from srum_jax.generation.run_file import RunChangedError, raise_differences
from tools.precompute_latents.placed import Placed

SETTINGS_FILE = "latents.json"
_READING = 32  # sidecars of a bucket at the same time
_ADVICE = "Use another --out, or the same settings."


class Target:
    """The new directory: one shard for each shard of a set, with the same records.

    Args:
      source: the set.
      out: where to write.
      settings: of the encoder and of what it is given.

    Raises:
      DataError: `out` holds other records.
      RunChangedError: `out` was begun, or made, with another set or other settings; lists the differences.
      WriteError, OSError: it cannot be written or read.
    """

    def __init__(self, source: RecordsSource, out: epath.PathLike, settings: Mapping[str, Any]):
        self.source, self.out, self._settings = source, epath.Path(out), dict(settings)
        self._before = read_sidecars(source.directory, source.manifest)
        self._paths = [self.out / sidecar["file"] for sidecar in self._before]
        self._finished: dict[int, dict[str, Any]] = {}  # sidecars of the shards that are known to be finished
        self.manifest = self._made_before()
        if self.manifest is not None:
            self._tidy_up()
            return
        refuse_other_records(self.out, self._paths)
        if object_store.is_local(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        self._begin(self.out / SETTINGS_FILE)

    def _made_before(self) -> Manifest | None:
        object_store.require_driver(self.out)
        object_store.forget_listing(self.out)
        if not object_store.exists(self.out / MANIFEST):
            return None
        manifest = read_manifest(self.out)
        before = (manifest.provenance or {}).get("latents")
        if not isinstance(before, dict):
            return None  # somebody else's
        raise_differences(self.out / MANIFEST, before, self._settings, _ADVICE)
        return manifest

    def _begin(self, path: epath.Path) -> None:
        if not object_store.exists(path):
            there = sorted(self._listing().keys() & {shard.name for shard in self._paths})
            if there:
                raise DataError(os.fspath(self.out), None, f"holds {len(there)} shards ({there[0]}, ...) and no "
                                                           f"{SETTINGS_FILE}; choose another folder")
            atomic_file.create_bytes(path, atomic_file.readable_json(self._settings).encode())
        try:
            before = json.loads(object_store.read_bytes(path))
        except ValueError as error:
            raise RunChangedError(f"{path}: not valid JSON ({error}); use another --out.") from error
        raise_differences(path, before, self._settings, _ADVICE)

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
        path, before = self._paths[number], self._before[number]
        if sidecar_path(path).name not in listing:
            return None
        try:
            sidecar = json.loads(object_store.read_bytes(sidecar_path(path)))
            same = {**sidecar, "num_bytes": before["num_bytes"], "sha256": before["sha256"]} == before
        except (FileNotFoundError, ValueError, TypeError):
            return None
        whole = (listing.get(path.name) == sidecar["num_bytes"]
                 and listing.get(path.name + INDEX_SUFFIX) == 8 * (before["num_records"] + 1))
        return sidecar if same and whole and isinstance(sidecar["sha256"], str) else None

    def write(self, number: int, records: Iterator[Placed]) -> None:
        """Writes a shard.

        Args:
          number: of the shard.
          records: as many as it has are taken, in the shard's order.

        Raises:
          DataError: a record may not be stored.
          WriteError: a file cannot be written.
        """
        before, path, last = self._before[number], self._paths[number], (-1, -1)
        with contextlib.ExitStack() as stack:
            folder = self.out if object_store.is_local(self.out) else epath.Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="srum-records-")))
            writer = ShardWriter(path, folder)
            try:
                for placed in itertools.islice(records, before["num_records"]):
                    place = (placed.record.index, placed.record.candidate)
                    try:
                        if place <= last:
                            raise SchemaError("record/index", f"(index, candidate) above {last}", str(place))
                        check_image(placed.record)
                        writer.write(placed.record, encode_record(placed.record))
                    except (SchemaError, ImageError) as error:
                        raise placed.error(error) from error
                    last = place
                # Until the new sidecar is there, an old one must not vouch for new bytes.
                object_store.remove(sidecar_path(path))
                sidecar = writer.commit(before.get("num_rejects", {}))
            except BaseException:
                writer.discard()
                raise
        if sidecar["num_records"] == before["num_records"]:
            self._finished[number] = sidecar

    def finish(self) -> Manifest:
        """Writes the manifest once no shard is missing. Several processes may do so at the same time.

        Raises:
          WriteError, OSError: it cannot be written.
        """
        before = self.source.manifest
        self.manifest = finish_records(
            self.out, before.name, [self._finished[number] for number in range(len(self._paths))],
            provenance={**(before.provenance or {}), "latents": self._settings},
            settings={"records_settings_sha256": before.settings_sha256, "latents": self._settings},
            num_prompts=before.counts.get("prompts"))
        self._tidy_up()
        return self.manifest

    def _tidy_up(self) -> None:
        """Removes what killed processes left, now that nobody can need it."""
        with contextlib.suppress(OSError):
            object_store.remove(self.out / SETTINGS_FILE)
            names = (SETTINGS_FILE, *(path.stem for path in self._paths))
            for path in self.out.iterdir() if object_store.is_local(self.out) else ():
                if atomic_file.PARTIAL_MARK in path.name and path.name.startswith(tuple(f".{name}" for name in names)):
                    path.unlink(missing_ok=True)
