"""A directory that is complete, or not there."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator

from etils import epath


@contextlib.contextmanager
def atomic_directory(directory: epath.PathLike) -> Iterator[epath.Path]:
    """Gives an empty directory to fill, which takes its name only when the block ends without an error.

    Args:
      directory: a local path that does not exist yet.

    Raises:
      FileExistsError: it exists.
    """
    directory = epath.Path(directory)
    if directory.exists():
        raise FileExistsError(f"{directory}: exists already; choose another directory, or remove it.")
    temporary = directory.parent / f".{directory.name}.partial-{secrets.token_hex(4)}"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
