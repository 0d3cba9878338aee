"""A directory that appears under its name only when everything in it is complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from etils import epath

from srum_jax.storage.object_store import is_local
from srum_jax.weights.errors import WeightsError

# Left free beyond what will be written.
_SPARE_BYTES = 64 * 2**20


def check_output(out: epath.Path, num_bytes: int) -> None:
    """Refuses an output directory that exists, is not local, or does not fit on its disk.

    Args:
      out: directory to be made.
      num_bytes: that will be written.

    Raises:
      WeightsError: with what to do.
    """
    check_name(out)
    existing = epath.Path(os.path.abspath(os.fspath(out))).parent
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise WeightsError(f"{out}: expected a directory at {existing}, found a file.")
    free = shutil.disk_usage(os.fspath(existing)).free
    if free < num_bytes + _SPARE_BYTES:
        raise WeightsError(
            f"{out}: not enough disk: expected {_gigabytes(num_bytes + _SPARE_BYTES)} free on the disk of "
            f"{existing}, found {_gigabytes(free)}. Free some, or choose --out on another disk."
        )


def check_name(out: epath.Path) -> None:
    """Refuses an output directory that exists or is not local.

    Raises:
      WeightsError: with what to do.
    """
    if not is_local(out):
        raise WeightsError(f"--out {out}: expected a local directory; convert to a local disk and copy the "
                           "result, for instance with `gcloud storage cp -r`. Loading reads remote "
                           "directories.")
    if os.path.lexists(out):
        raise WeightsError(f"--out {out}: expected a new directory, found that it exists; choose another "
                           "name or remove it yourself.")


@contextlib.contextmanager
def output_directory(out: epath.Path) -> Iterator[epath.Path]:
    """Gives a temporary directory beside `out`, which gets its name if the body succeeds and is removed if
    not.

    A killed process leaves `OUT.partial-PID` behind, which is not a loadable checkpoint and may be removed.
    """
    out = epath.Path(os.path.abspath(os.fspath(out)))
    partial = out.parent / f"{out.name}.partial-{os.getpid()}"
    out.parent.mkdir(parents=True, exist_ok=True)
    if partial.exists():  # of a killed process that had the same number
        partial.rmtree()
    partial.mkdir()
    try:
        yield partial
        sync(partial)
        check_name(out)  # it may have been made meanwhile
        os.rename(partial, out)
        sync(out.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_text(path: epath.Path, text: str) -> None:
    """Writes a small file and waits until it is on disk."""
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def copy_files(files: list[epath.Path], directory: epath.Path) -> int:
    """Copies small files byte for byte; returns how many."""
    for file in files:
        (directory / file.name).write_bytes(file.read_bytes())
        sync(directory / file.name)
    return len(files)


def sync(path: epath.Path) -> None:
    """Waits until a file, or the entries of a directory, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
