"""Telling checkpoints apart without reading tens of gigabytes."""

import concurrent.futures
import hashlib
import json
from collections.abc import Iterable

from etils import epath

from srum_jax.models.architecture import Architecture
from srum_jax.storage.ranges import RangeReader
from srum_jax.storage.reading import is_hidden
from srum_jax.weights.converted import MANIFEST, is_converted, read_manifest
from srum_jax.weights.safetensors_read import SafetensorsFile, TensorEntry
from srum_jax.weights.weight_files import INDEX, WeightFiles, choose_files

_SAMPLE_BYTES = 4096
_READING = 32  # threads
# Configurations and tokenizer; other texts are remarks, such as the `processing_complete.txt` of SRUM's converter.
_SMALL_FILES = (".json", "merges.txt", "vocab.txt", ".model", ".jinja")
_LARGEST_SMALL_FILE = 64 * 2**20
_LEFT_OUT = (INDEX, "export_report.json")  # the one decides nothing, the other is of how the weights were written


def checkpoint_fingerprint(checkpoint: epath.PathLike, architecture: Architecture) -> str:
    """SHA-256, hexadecimal, over small files, headers, and some bytes from the middle of every tensor.

    Further training changes it: it leaves headers as they are, but not the values. Only the weight files that would be
    read count, and neither what they are called nor where they lie or when they were written.

    Args:
      checkpoint: what `open_checkpoint` takes.
      architecture: of the model.

    Raises:
      WeightsError: it cannot be told which files are meant, or one is damaged.
    """
    if is_converted(checkpoint):
        directory = epath.Path(checkpoint)
        return _fingerprint(directory, read_manifest(directory / MANIFEST).files)
    return files_fingerprint(choose_files(checkpoint, architecture, frozenset(architecture.parts)))


def files_fingerprint(chosen: WeightFiles) -> str:
    """The same of a published checkpoint whose files were chosen with all parts.

    Raises:
      WeightsError: a file is damaged.
    """
    return _fingerprint(chosen.directory, chosen.entries)


def directory_fingerprint(directory: epath.PathLike) -> str:
    """The same of all weight files in the directory of a model that is not ours.

    Raises:
      WeightsError: a safetensors file is damaged.
    """
    directory = epath.Path(directory)
    return _fingerprint(directory, sorted(path.name for path in directory.iterdir()
                                          if path.name.endswith(".safetensors") and not is_hidden(path.name)))


def encoder_fingerprint(checkpoint: epath.PathLike, architecture: Architecture) -> str | None:
    """The same of the files alone that hold the part with the encoder; None where it has none of its own.

    Args:
      checkpoint: as for `checkpoint_fingerprint`.
      architecture: of the model.

    Raises:
      WeightsError: see `checkpoint_fingerprint`.
    """
    if is_converted(checkpoint):
        return None
    part = architecture.encoder.partition(".")[0]
    chosen = choose_files(checkpoint, architecture, frozenset(architecture.parts))
    own = [_weights_sha256(chosen.directory / path) for path, entry in chosen.entries.items() if entry.part == part]
    return hashlib.sha256("".join(own).encode()).hexdigest() if own else None


def _fingerprint(directory: epath.Path, weights: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for path in weights:
        digest.update(f"{_weights_sha256(directory / path)}\n".encode())
    for file in sorted(directory.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(_SMALL_FILES) or is_hidden(file.name) or file.name in _LEFT_OUT or file.is_dir():
            continue
        if file.stat().length <= _LARGEST_SMALL_FILE:
            digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _weights_sha256(path: epath.Path) -> str:
    file = SafetensorsFile(path)
    digest = hashlib.sha256()
    source = RangeReader(path)
    tensors = sorted(file.tensors.items())

    def sample(entry: TensorEntry) -> bytes:
        size = min(_SAMPLE_BYTES, entry.num_bytes)
        return source.read(entry.begin + (entry.num_bytes - size) // 2, size)

    with concurrent.futures.ThreadPoolExecutor(_READING) as pool:  # a bucket answers each request after a while
        for (name, entry), found in zip(tensors, pool.map(sample, (entry for _, entry in tensors)), strict=True):
            layout = [name, str(entry.dtype), list(entry.shape), entry.begin]
            digest.update(json.dumps(layout).encode() + b"\n" + found)
    source.close()
    return digest.hexdigest()
