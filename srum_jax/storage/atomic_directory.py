"""A directory that is complete, or not there."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from etils import epath

from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import partial_name

_UPLOADING = ".uploading"  # object beside a directory of a bucket that is not complete


@contextlib.contextmanager
def atomic_directory(directory: epath.PathLike) -> Iterator[epath.Path]:
    """Gives an empty directory to fill, which takes its name only when the block ends without an error.

    What a killed process leaves has another name, `.NAME.partial-*`.

    The objects of a bucket cannot take another name together. There the directory is filled on the local disk and then
    uploaded, with a note beside it while that lasts; `is_complete` looks for the note, and whoever makes the directory
    again removes what a killed process left.

    Args:
      directory: does not exist yet.

    Raises:
      FileExistsError: it exists.
    """
    directory = epath.Path(directory)
    _refuse_another(directory)
    if not object_store.is_local(directory):
        with tempfile.TemporaryDirectory() as temporary:
            yield epath.Path(temporary)
            _upload(epath.Path(temporary), directory)
        return
    temporary = partial_name(directory)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _sync(temporary)
        _refuse_another(directory)  # it may have been made meanwhile, and an empty one would be replaced
        temporary.rename(directory)
        _sync(directory.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def is_complete(directory: epath.PathLike) -> bool:
    """Whether a directory is there, as a whole if `atomic_directory` made it."""
    directory = epath.Path(directory)
    object_store.forget_listing(directory)
    return directory.exists() and (object_store.is_local(directory) or not _note(directory).exists())


def _refuse_another(directory: epath.Path) -> None:
    if is_complete(directory):
        raise FileExistsError(f"{directory}: exists already; choose another directory, or remove it.")


def _sync(directory: epath.Path) -> None:
    """Waits until the entries of a local directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _note(directory: epath.Path) -> epath.Path:
    return directory.parent / f"{directory.name}{_UPLOADING}"


def _upload(temporary: epath.Path, directory: epath.Path) -> None:
    note = _note(directory)
    object_store.put_bytes(note, b"")
    try:
        if directory.exists():  # a part, of a process that was killed
            directory.rmtree()
        for folder, _, files in temporary.walk():
            for name in files:
                object_store.put_file(directory / folder.relative_to(temporary) / name, folder / name)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to be told; the note stays where this fails
            directory.rmtree(missing_ok=True)
            note.unlink()
        raise
    note.unlink()
