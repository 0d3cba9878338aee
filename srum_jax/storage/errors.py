"""What can go wrong with files and buckets beside the system's own errors."""

import contextlib
import os
from collections.abc import Iterator

from srum_jax.errors import Failure


class WriteError(Failure, OSError):
    """A file could not be written: names it, and the bytes that it needs."""

    def __init__(self, file: str, num_bytes: int, error: OSError):
        super().__init__(error.errno, error.strerror or str(error), file)
        self.num_bytes = num_bytes

    def __str__(self) -> str:
        return (f"{self.filename}: cannot be written, {self.num_bytes} bytes ({self.strerror}); what was there before "
                "is intact. Make room and give the same command again.")


class AccessError(Failure, OSError):
    """A bucket refused a request: no credentials came with it, or they do not allow it. Trying again is no help."""


@contextlib.contextmanager
def writing(file: os.PathLike | str, num_bytes: int) -> Iterator[None]:
    """Around writing a file of so many bytes.

    Raises:
      WriteError: it could not be written.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(os.fspath(file), num_bytes, error) from error
