"""The small files of a run that grow. A disk can append to them; in a bucket they are written anew, whole."""

from etils import epath

from srum_jax.storage.object_store import is_local, put_bytes


def write_whole(path: epath.Path, text: str) -> None:
    """Writes a text that appears whole or not at all, and whose loss with the machine would not matter."""
    if not is_local(path):
        put_bytes(path, text.encode())
        return
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_text(text)
    temporary.replace(path)


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
            write_whole(self._path, "".join(f"{line}\n" for line in self._lines))
            self._unwritten = False
