"""A command that is refused (exit code 2) leaves things as they were."""

import contextlib
import os
from collections.abc import Callable, Iterator

from etils import epath

from srum_jax.errors import exit_code
from srum_jax.storage import object_store


@contextlib.contextmanager
def folder_goes_if_refused(directory: epath.Path) -> Iterator[None]:
    """A directory that is not there yet, and those above it, go again if the block is refused and they are empty."""
    local = object_store.is_local(directory)
    made = [folder for folder in (directory, *directory.parents) if local and not folder.exists()]
    try:
        yield
    except BaseException as error:
        if exit_code(error) == 2:
            for folder in made:  # the innermost first
                with contextlib.suppress(OSError):  # not empty: not ours alone
                    os.rmdir(folder)
        raise


@contextlib.contextmanager
def entries_go_if_refused(directory: epath.Path, *, until: Callable[[], bool]) -> Iterator[None]:
    """What the block makes directly in a directory goes again if it is refused.

    Args:
      directory: in which nobody else makes anything meanwhile.
      until: whether there is something to be kept by now; nothing is taken back then.
    """
    before = _entries(directory)
    try:
        yield
    except BaseException as error:
        if exit_code(error) == 2 and not until():
            for path in _entries(directory) - before:
                path.rmtree() if path.is_dir() else path.unlink()
        raise


def _entries(directory: epath.Path) -> set[epath.Path]:
    return set(directory.iterdir()) if directory.exists() else set()
