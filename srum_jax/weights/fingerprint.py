"""Telling checkpoints apart without reading tens of gigabytes."""

import concurrent.futures
import hashlib
import json

from etils import epath

from srum_jax.storage.ranges import RangeReader
from srum_jax.storage.reading import is_hidden
from srum_jax.weights.safetensors_read import SafetensorsFile, TensorEntry

_SAMPLE_BYTES = 4096
_READING = 32  # threads
_SMALL_FILES = (".json", ".txt", ".model", ".jinja")  # configurations and tokenizer
_LARGEST_SMALL_FILE = 64 * 2**20
_AUTOENCODER_FILE = "ae.safetensors"
_REPORTS = ("export_report.json",)  # of how the weights were written


def checkpoint_fingerprint(checkpoint: epath.PathLike) -> str:
    """SHA-256, hexadecimal, over names, sizes, small files, headers, and some bytes from the middle of every tensor.

    Further training changes it: it leaves headers as they are, but not the values. Where the files lie and when they
    were written does not matter.

    Args:
      checkpoint: a directory, or one safetensors file of it.

    Raises:
      WeightsError: a safetensors file is damaged.
    """
    path = epath.Path(checkpoint)
    directory = path if path.is_dir() else path.parent
    digest = hashlib.sha256()
    if path != directory:
        digest.update(f"only {path.name}\n".encode())
    for file in sorted(directory.iterdir(), key=lambda file: file.name):
        if is_hidden(file.name) or file.name in _REPORTS or file.is_dir():
            continue
        if file.name.endswith(".safetensors"):
            content = _weights_sha256(file)
        elif file.name.endswith(_SMALL_FILES) and file.stat().length <= _LARGEST_SMALL_FILE:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
        else:
            continue
        digest.update(f"{file.name} {file.stat().length} {content}\n".encode())
    return digest.hexdigest()


def autoencoder_fingerprint(checkpoint: epath.PathLike) -> str | None:
    """The same of the autoencoder's file alone; None where it has no file of its own.

    Args:
      checkpoint: as for `checkpoint_fingerprint`.

    Raises:
      WeightsError: the file is damaged.
    """
    path = epath.Path(checkpoint)
    file = (path if path.is_dir() else path.parent) / _AUTOENCODER_FILE
    return _weights_sha256(file) if file.exists() else None


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
