"""The small files of a run that grow. A disk can append to them; those of a bucket grow on the disk, and are copied."""

import tempfile

from etils import epath

from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import atomic_write


class GrowingFile:
    """A file that is only appended to."""

    def __init__(self, path: epath.Path, begin: bytes):
        """Begins it anew.

        Args:
          path: of the file.
          begin: what it begins with.

        Raises:
          OSError: it cannot be written.
        """
        self._path, self._local = path, object_store.is_local(path)
        self._unwritten = True
        if self._local:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, durable=False) as file:  # its loss with the machine would not matter
                file.write(begin)
            self._file = path.open("ab")
        else:
            self._file = tempfile.NamedTemporaryFile(prefix=f"{path.name}-")
            self.append(begin)
            self.flush()

    def append(self, data: bytes) -> None:
        """On a disk the data are in the file at once, in a bucket with the next `flush`."""
        self._file.write(data)
        self._file.flush()
        self._unwritten = True

    def flush(self) -> None:
        """Puts everything into the file.

        Raises:
          OSError: the bucket refuses; the next call tries again.
        """
        if not self._local and self._unwritten:
            object_store.put_file(self._path, self._file.name)
            self._unwritten = False

    def close(self) -> None:
        """Puts everything into the file, and gives it back."""
        try:
            self.flush()
        finally:
            self._file.close()
