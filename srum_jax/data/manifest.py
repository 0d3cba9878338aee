"""What makes a directory of shards a set of records: the list of the shards, and the manifest, written last.

    NAME-00000-of-00016.tfrecord  .index  .json     data, byte offsets, counts and checksum
    shards.jsonl                                    all sidecars
    dataset_info.json  features.json                for tensorflow_datasets.builder_from_directory
    manifest.json                                   written last: without it the directory does not load
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.data import tfds_metadata
from srum_jax.data.errors import DataError
from srum_jax.data.schema import SCHEMA_VERSION, canonical_json
from srum_jax.storage import atomic_file, object_store
from srum_jax.storage.reading import is_hidden

MANIFEST = "manifest.json"
SHARDS_FILE = "shards.jsonl"


def shard_name(name: str, shard: int, num_shards: int) -> str:
    """File name of one shard."""
    digits = max(5, len(str(num_shards)))
    return f"{name}-{shard:0{digits}d}-of-{num_shards:0{digits}d}.tfrecord"


def sidecar_path(shard: epath.Path) -> epath.Path:
    """Of a `.tfrecord` file."""
    return shard.with_suffix(".json")


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


def refuse_other_records(directory: epath.Path, shards: Sequence[epath.Path]) -> None:
    """Makes sure that a directory holds neither finished records nor shards besides the given ones.

    Raises:
      DataError: it does.
      OSError: it cannot be read.
    """
    object_store.forget_listing(directory)
    if not object_store.exists(directory):
        return
    if object_store.exists(directory / MANIFEST):
        raise DataError(os.fspath(directory), None,
                        f"holds finished records already ({MANIFEST}); there is no overwrite, choose another folder")
    ours = {path.name for path in shards}
    with object_store.os_errors(directory):
        others = sorted(path.name for path in directory.glob("*.tfrecord")
                        if path.name not in ours and not is_hidden(path.name))
    if others:
        raise DataError(os.fspath(directory), None,
                        f"holds {len(others)} shards of something else ({others[0]}, ...); choose another folder")


def finish_records(
    directory: epath.Path,
    name: str,
    sidecars: Sequence[Mapping[str, Any]],
    *,
    provenance: Mapping[str, Any],
    settings: Mapping[str, Any],
    num_prompts: int | None = None,
) -> Manifest:
    """Writes what stands beside finished shards, the manifest last. Equal arguments give equal bytes.

    Args:
      directory: of the shards.
      name: starts their file names.
      sidecars: of all shards, in their order.
      provenance: stored in the manifest.
      settings: likewise, only its hash is stored.
      num_prompts: that were offered; None: as many as records were written or rejected.

    Raises:
      WriteError: a file cannot be written.
    """
    shards_text = "".join(canonical_json(sidecar) + "\n" for sidecar in sidecars)
    atomic_file.write_text(directory / SHARDS_FILE, shards_text)
    lengths = [sidecar["num_records"] for sidecar in sidecars]
    num_records, num_bytes = sum(lengths), sum(sidecar["num_bytes"] for sidecar in sidecars)
    atomic_file.write_json(directory / "features.json", tfds_metadata.features())
    atomic_file.write_json(directory / "dataset_info.json", tfds_metadata.dataset_info(name, lengths, num_bytes))
    rejected = collections.Counter()
    for sidecar in sidecars:
        rejected.update(sidecar["num_rejects"])
    candidates = num_records + rejected.total()
    manifest = Manifest(
        name=name,
        num_shards=len(sidecars),
        num_records=num_records,
        num_bytes=num_bytes,
        counts={"prompts": candidates if num_prompts is None else num_prompts, "candidates": candidates,
                "exported": num_records, "rejected": dict(sorted(rejected.items()))},
        settings_sha256=hashlib.sha256(canonical_json(dict(settings)).encode()).hexdigest(),
        provenance=dict(provenance),
        shards_sha256=hashlib.sha256(shards_text.encode()).hexdigest(),
    )
    atomic_file.write_json(directory / MANIFEST, dataclasses.asdict(manifest) | {"shards_file": SHARDS_FILE})
    return manifest
