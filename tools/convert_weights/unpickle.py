"""From pickled weights of PyTorch to safetensors.

A pickle is a program. It is run by PyTorch's reader of weights alone (`weights_only=True`), which makes nothing but
tensors, and in a process of its own, one file at a time.
"""

import subprocess
import sys

from etils import epath

from srum_jax.storage.atomic_directory import atomic_directory
from srum_jax.storage.atomic_file import is_local
from srum_jax.storage.reading import is_hidden
from srum_jax.weights.errors import WeightsError
from tools.convert_weights.output_directory import check_output

_ENDING = ".bin"


def unpickle(source: epath.PathLike, out: epath.PathLike) -> list[epath.Path]:
    """Writes a safetensors file for every pickled one: `pytorch_model.bin` becomes `model.safetensors`.

    Args:
      source: one `.bin` file, or a directory of them; local.
      out: directory to be made; must not exist.

    Returns:
      The files that were made.

    Raises:
      WeightsError: nothing to read, no PyTorch, or a file that holds more than tensors; nothing is left behind.
    """
    source, out = epath.Path(source), epath.Path(out)
    if not is_local(source):
        raise WeightsError(f"--source {source}: expected a local path; copy the pickled weights to a local disk first.")
    if not source.exists():
        raise WeightsError(f"--source {source}: no such file; expected pickled weights ({_ENDING}).")
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    pickled = [file for file in files if file.name.endswith(_ENDING) and not is_hidden(file.name)]
    if not pickled:
        raise WeightsError(f"--source {source}: expected pickled weights ({_ENDING}), found "
                           f"{', '.join(file.name for file in files[:10]) or 'an empty directory'}.")
    check_output(out, sum(file.stat().length for file in pickled))
    names = {file: file.name.removesuffix(_ENDING).replace("pytorch_model", "model") + ".safetensors"
             for file in pickled}
    with atomic_directory(out) as directory:
        for file, name in names.items():
            _convert(file, directory / name)
    return [out / name for name in names.values()]


def _convert(file: epath.Path, target: epath.Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tools.convert_weights.unpickled", str(file), str(target)],
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False,
    )
    if child.returncode:
        said = child.stderr.strip().splitlines()
        why = said[-1] if said else f"the process that read it ended with {child.returncode}"
        raise WeightsError(f"{file}: cannot be read: {why}")
