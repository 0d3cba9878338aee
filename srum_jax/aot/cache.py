"""Results of compilations on disk, by the program's own text: the same program is not compiled twice."""

import gzip
import hashlib
import importlib.metadata
import json
import os
import zlib
from typing import Any

from etils import epath

from srum_jax.storage.atomic_file import write_bytes

_VERSION = 3  # of what is stored; results of other versions are not read
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # variables that change what the compiler does


class CompileCache:
    """A directory of compressed JSON files; None keeps nothing."""

    def __init__(self, directory: epath.PathLike | None):
        self._directory = None if directory is None else epath.Path(directory)

    def key(self, topology: str, program: str) -> str:
        """The name of a result: what is compiled, for what, and by which compiler."""
        versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")]
        flags = [f"{name}={os.environ[name]}" for name in _FLAGS if os.environ.get(name)]
        told = [str(_VERSION), topology, *versions, *flags, program]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]

    def read(self, key: str) -> dict[str, Any] | None:
        """What was stored; None if nothing was, or it cannot be read."""
        if self._directory is None:
            return None
        try:
            return json.loads(gzip.decompress((self._directory / f"{key}.json.gz").read_bytes()))
        except (OSError, EOFError, zlib.error, ValueError):
            return None

    def write(self, key: str, result: dict[str, Any]) -> None:
        """Stores a result."""
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_bytes(self._directory / f"{key}.json.gz", gzip.compress(json.dumps(result).encode()))
