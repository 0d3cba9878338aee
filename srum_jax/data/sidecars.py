"""Making again what lies beside a shard and was lost: its index, its sidecar, the list of all sidecars.

Everything is compared with a checksum that survived before it is written.
"""

import hashlib
import json
import os
from typing import Any

from etils import epath

from srum_jax.data.errors import DataError, SchemaError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.manifest import SHARDS_FILE, shard_name, sidecar_path
from srum_jax.data.records_source import read_manifest, read_sidecars
from srum_jax.data.schema import canonical_json
from srum_jax.data.shard_writer import ShardStatistics
from srum_jax.data.tfrecord import INDEX_SUFFIX, TFRecordFile, scan_offsets
from srum_jax.storage import atomic_file


def scan_shard(shard: epath.Path, num_rejects: dict[str, int]) -> dict[str, Any]:
    """The sidecar of a shard, from every byte of it.

    Args:
      shard: a `.tfrecord` file.
      num_rejects: by reason; the shard does not hold them.

    Raises:
      DataError: naming the record, and its offset, whose checksum does not hold.
    """
    offsets, statistics = scan_offsets(shard), ShardStatistics()
    file = TFRecordFile(shard)
    for number in range(len(file)):
        try:
            statistics.add(decode_record(file[number]))
        except SchemaError as error:
            raise DataError(os.fspath(shard), number, f"{error} (at byte {offsets[number]})") from error
    file.close()
    return {"file": shard.name, "num_records": len(offsets) - 1, "num_bytes": int(offsets[-1]),
            "sha256": atomic_file.file_sha256(shard), **statistics.to_json(), "num_rejects": num_rejects}


def restore_sidecars(directory: epath.Path) -> list[epath.Path]:
    """Writes what is missing beside the shards of a finished directory; returns what was written.

    Raises:
      DataError: a shard is damaged or is not the one that was written, or too much is missing.
    """
    manifest = read_manifest(directory)
    shards = [directory / shard_name(manifest.name, number, manifest.num_shards)
              for number in range(manifest.num_shards)]
    restored = []
    if not (directory / SHARDS_FILE).exists():
        _restore_list(directory / SHARDS_FILE, shards, manifest.shards_sha256)
        restored.append(directory / SHARDS_FILE)
    for shard, listed in zip(shards, read_sidecars(directory, manifest), strict=True):
        if not sidecar_path(shard).exists():
            found = scan_shard(shard, listed.get("num_rejects", {}))
            if found != listed:
                names = [name for name in listed if listed[name] != found.get(name)]
                raise DataError(os.fspath(shard), None, "is not the shard that was written: " + "; ".join(
                    f"{name}: expected {listed[name]}, found {found.get(name)}" for name in names))
            atomic_file.write_json(sidecar_path(shard), found)
            restored.append(sidecar_path(shard))
        index = epath.Path(os.fspath(shard) + INDEX_SUFFIX)
        if not index.exists():
            atomic_file.write_bytes(index, scan_offsets(shard).astype("<u8").tobytes())
            restored.append(index)
    return restored


def _restore_list(path: epath.Path, shards: list[epath.Path], expected: str) -> None:
    lines = []
    for shard in shards:
        sidecar = sidecar_path(shard)
        if not sidecar.exists():
            raise DataError(os.fspath(path), None, f"no such file, and {sidecar.name} is missing too: the checksums of "
                                                   "this shard are lost; export again into another folder")
        try:
            lines.append(canonical_json(json.loads(sidecar.read_bytes())) + "\n")
        except ValueError as error:
            raise DataError(os.fspath(sidecar), None, f"not valid JSON ({error})") from error
    text = "".join(lines)
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != expected:
        raise DataError(os.fspath(path), None, f"no such file, and the sidecars are not those that were written: "
                                               f"checksum: expected {expected}, found {found}")
    atomic_file.write_text(path, text)
