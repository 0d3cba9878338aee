"""The small files of a run that grow. A disk can append to them; in a bucket they are written anew, whole."""

from etils import epath

from srum_jax.storage.atomic_file import atomic_write
from srum_jax.storage.object_store import is_local


class LineFile:
    """A text file of lines."""

    def __init__(self, path: epath.Path, lines: list[str]):
        """Begins it anew.

        Args:
          path: of the file.
          lines: that it begins with.
        """
        self._path, self._local = path, is_local(path)
        self._lines = list(lines)
        self._unwritten = True
        self._write()

    def append(self, line: str) -> None:
        """On a disk the line is in the file at once, in a bucket with the next `flush`."""
        if self._local:
            with self._path.open("a") as file:
                file.write(line + "\n")
        else:
            self._lines.append(line)
            self._unwritten = True

    def flush(self) -> None:
        """Puts every line into the file."""
        if not self._local:
            self._write()

    def _write(self) -> None:
        if self._unwritten:
            with atomic_write(self._path, durable=False) as file:  # its loss with the machine would not matter
                file.write("".join(f"{line}\n" for line in self._lines).encode())
            self._unwritten = False
