"""What is wrong with a directory of records: checksums, indexes, sidecars, counts, ids, and every record's schema."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator

from etils import epath
from tqdm import tqdm

from srum_jax.data.errors import DataError, ImageError, SchemaError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.manifest import SHARDS_FILE, Manifest, sidecar_path
from srum_jax.data.records_source import find_records, read_manifest, read_sidecars
from srum_jax.data.schema import RewardRecord
from srum_jax.data.tfrecord import INDEX_SUFFIX, TFRecordFile, scan_offsets
from srum_jax.data.writer import check_image
from srum_jax.storage.atomic_file import file_sha256


def verify_records(
    directory: epath.PathLike, on_record: Callable[[RewardRecord, str], object] = lambda record, place: None
) -> Iterator[str]:
    """Yields one line for each thing that is wrong. Reads every byte once, and holds one record at a time.

    Args:
      directory: holds the manifest, or a folder `export` that does.
      on_record: called with every readable record and where it lies.

    Raises:
      DataError: there is no readable manifest or list of shards to compare with.
    """
    directory = find_records(directory)
    manifest = read_manifest(directory)
    sidecars = read_sidecars(directory, manifest)
    places: dict[bytes, tuple[int, int]] = {}
    num_records = num_bytes = num_rejects = 0
    for number, sidecar in enumerate(tqdm(sidecars, unit="shard", disable=None)):
        path = directory / sidecar["file"]
        num_bytes += sidecar["num_bytes"]
        num_records += sidecar["num_records"]
        num_rejects += sum(sidecar.get("num_rejects", {}).values())
        try:
            yield from _verify_shard(path, sidecar)
            shard = TFRecordFile(path)
        except DataError as error:
            yield str(error)
            continue
        for record_number in range(len(shard)):
            place = f"{path}: record {record_number}"
            try:
                record = decode_record(shard[record_number])
                check_image(record)
            except DataError as error:
                yield str(error)
                continue
            except (SchemaError, ImageError) as error:
                yield f"{place}: {error}"
                continue
            yield from _verify_place(record, number, manifest, place)
            identity = hashlib.sha256(record.record_id.encode()).digest()[:16]
            if identity in places:
                shard_number, earlier = places[identity]
                other = directory / sidecars[shard_number]["file"]
                yield f"{place}: id {record.record_id!r} is also that of {other}: record {earlier}"
            places[identity] = (number, record_number)
            on_record(record, place)
        shard.close()
    yield from _verify_counts(os.fspath(directory), manifest, num_records, num_bytes, num_rejects)


def _verify_shard(path: epath.Path, sidecar: dict) -> Iterator[str]:
    if not path.exists():
        raise DataError(os.fspath(path), None, "no such file")
    found = file_sha256(path)
    if found != sidecar["sha256"]:
        yield f"{path}: checksum: expected {sidecar['sha256']}, found {found}"
    offsets = scan_offsets(path)
    yield from _verify_sidecar(sidecar_path(path), sidecar)
    index = epath.Path(os.fspath(path) + INDEX_SUFFIX)
    if not index.exists():
        yield f"{index}: no such file; `export` makes it again"
    elif index.read_bytes() != offsets.astype("<u8").tobytes():
        yield f"{index}: does not hold the offsets of the records; delete it to have it rebuilt"
    for field, value in (("num_records", len(offsets) - 1), ("num_bytes", int(offsets[-1]))):
        if sidecar[field] != value:
            yield f"{path}: {field}: expected {sidecar[field]}, found {value}"


def _verify_sidecar(path: epath.Path, listed: dict) -> Iterator[str]:
    if not path.exists():
        yield f"{path}: no such file; `export` makes it again from the shard"
        return
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        yield f"{path}: not valid JSON ({error})"
        return
    if found != listed:
        yield f"{path}: differs from its line in {SHARDS_FILE}"


def _verify_place(record: RewardRecord, shard: int, manifest: Manifest, place: str) -> Iterator[str]:
    expected = record.index % manifest.num_shards
    if expected != shard:
        yield f"{place}: record/index {record.index} belongs to shard {expected}, found in {shard}"


def _verify_counts(
    name: str, manifest: Manifest, num_records: int, num_bytes: int, num_rejects: int
) -> Iterator[str]:
    rejected = sum(manifest.counts.get("rejected", {}).values())
    for what, expected, found in (
        ("num_records", manifest.num_records, num_records),
        ("num_bytes", manifest.num_bytes, num_bytes),
        ("counts.exported", manifest.counts.get("exported"), num_records),
        ("counts.rejected", rejected, num_rejects),
        ("counts.candidates = exported + rejected", manifest.counts.get("candidates"), num_records + rejected),
    ):
        if expected != found:
            yield f"{name}: {what}: expected {expected}, found {found}"
