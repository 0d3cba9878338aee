"""What can be said of a directory before it is written, and the small files that go into it."""

import os
import shutil

from etils import epath

from srum_jax.storage.atomic_file import is_local, write_bytes
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


def copy_files(files: list[epath.Path], source: epath.Path, directory: epath.Path) -> None:
    """Copies small files byte for byte, from and to the same places in two directories."""
    for file in files:
        copy = directory / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(copy, file.read_bytes())


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
