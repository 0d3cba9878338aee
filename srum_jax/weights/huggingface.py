"""A published checkpoint: a directory of safetensors files with their JSON configurations, or one such
file."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from srum_jax.storage.reading import is_hidden, why_absent
from srum_jax.weights.errors import WeightsError, raise_together
from srum_jax.weights.run_folder import hint
from srum_jax.weights.safetensors_read import Region, SafetensorsFile
from srum_jax.weights.table import SourceTensor

logger = logging.getLogger(__name__)

INDEX = "model.safetensors.index.json"
AUTOENCODER_FILE = "ae.safetensors"
MODEL_FILES = ("ema.safetensors", "model.safetensors")  # the first one present is read
# Endings of the small files that travel with the weights: configurations, tokenizer, model card.
_COMPANIONS = (".json", ".txt", ".model", ".jinja", ".md")
_LARGEST_COMPANION_BYTES = 64 * 2**20


class HuggingFaceSource:
    """The tensors of a published checkpoint. Only safetensors and JSON files are ever opened."""

    def __init__(self, path: epath.PathLike):
        """Opens all weight files and reads their headers.

        Args:
          path: a directory, or one safetensors file of it; then that file is read instead of the one that the
            directory's index or the usual names would give.

        Raises:
          WeightsError: if a file is absent or malformed, the index disagrees with the files, or two files
            hold the same tensor.
        """
        path = epath.Path(path)
        if not path.exists():
            raise WeightsError(f"{path}: no such directory; expected a BAGEL checkpoint with "
                               f"{MODEL_FILES[0]}, {AUTOENCODER_FILE} and the JSON configurations.")
        self.path = path
        self.directory = path if path.is_dir() else path.parent
        index = {} if path.is_file() else _read_index(self.directory)
        names = _file_names(self.directory, index, path.name if path.is_file() else None)
        self.files: dict[str, SafetensorsFile] = {}
        problems = []
        for name in names:
            try:
                self.files[name] = SafetensorsFile(self.directory / name)
            except WeightsError as error:
                problems.append(str(error))
        raise_together(f"{path}: cannot be read", problems)
        self.tensors: Mapping[str, SourceTensor] = self._collect(index)

    def read(self, name: str, region: Region | None = None) -> np.ndarray:
        """One region of one tensor, in the stored dtype."""
        return self.files[self.file_of(name)].read(name, region)

    def file_of(self, name: str) -> str:
        """The name of the file that holds a tensor."""
        return next(file for file, content in self.files.items() if name in content.tensors)

    def companions(self) -> list[epath.Path]:
        """Configurations, tokenizer files and the like that belong to the checkpoint."""
        return companion_files(self.directory)

    def _collect(self, index: Mapping[str, str]) -> dict[str, SourceTensor]:
        tensors: dict[str, SourceTensor] = {}
        problems = []
        for file in self.files.values():
            for name, entry in file.tensors.items():
                if name in tensors:
                    problems.append(f"tensor '{name}' is in {tensors[name].file} and in {file.path}; "
                                    "expected it once, remove one of the files")
                tensors[name] = SourceTensor(entry.dtype, entry.shape, str(file.path))
        for name, file_name in index.items():
            if name not in self.files[file_name].tensors:
                problems.append(f"{self.directory / INDEX}: tensor '{name}': expected in {file_name}, "
                                "found nothing there; copy both files from the same checkpoint")
        raise_together(f"{self.path}: inconsistent files", problems)
        return tensors


def companion_files(directory: epath.Path) -> list[epath.Path]:
    """The small files beside the weights, sorted by name."""
    files = []
    for path in sorted(directory.iterdir()):
        wanted = (path.name.endswith(_COMPANIONS) or path.name.startswith(("LICENSE", "NOTICE"))) and not is_hidden(
            path.name)
        ours = path.name in ("srum_weights.json", "export_report.json")
        if not wanted or ours or path.name.endswith(".safetensors.index.json") or not path.is_file():
            continue
        if path.stat().length > _LARGEST_COMPANION_BYTES:
            logger.warning("%s is not copied: %d bytes is too large for a configuration or tokenizer file.",
                            path, path.stat().length)
            continue
        files.append(path)
    return files


def _read_index(directory: epath.Path) -> dict[str, str]:
    path = directory / INDEX
    if not path.exists():
        return {}
    try:
        content: Any = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error}); copy it again, or remove it.") from error
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        raise WeightsError(f"{path}: field 'weight_map': expected an object from tensor names to file names; "
                           "copy it again, or remove it.")
    problems = []
    for file in dict.fromkeys(names.values()):
        first = next(name for name, owner in names.items() if owner == file)
        if epath.Path(file).name != file or not file.endswith(".safetensors"):
            problems.append(f"field 'weight_map': tensor '{first}': expected the name of a safetensors "
                            f"file in the same directory, found {file!r}; nothing else is read")
        elif not (directory / file).exists():
            present = sorted(p.name for p in directory.iterdir() if p.name.endswith(".safetensors"))
            count = sum(owner == file for owner in names.values())
            problems.append(
                f"tensor '{first}' (and {count - 1} others): expected file {file} ({why_absent(directory / file)}), "
                f"found {', '.join(present) or 'no safetensors file'}; copy the absent file, or remove the index "
                "if it belongs to another checkpoint"
            )
    raise_together(f"{path}: names what is not there", problems)
    return names


def _file_names(directory: epath.Path, index: Mapping[str, str], chosen: str | None) -> list[str]:
    if chosen is not None and not chosen.endswith(".safetensors"):
        raise WeightsError(f"{directory / chosen}: only safetensors files are read, and pickled ones "
                           "never; expected a .safetensors file or a directory.")
    names = list(dict.fromkeys(index.values()))
    if chosen is not None:
        names = [chosen]
    elif not any(name != AUTOENCODER_FILE for name in names):
        present = [name for name in MODEL_FILES if (directory / name).exists()]
        if not present:
            found = sorted(path.name for path in directory.iterdir())
            raise WeightsError(
                f"{directory}: expected {' or '.join(MODEL_FILES)} or an index {INDEX}, found "
                f"{', '.join(found[:20]) or 'an empty directory'}. {hint(directory)}"
            )
        if len(present) > 1:
            logger.warning("%s: reading %s and not %s; give the path of the file itself to read that one.",
                            directory, *present)
        names.append(present[0])
    if AUTOENCODER_FILE not in names and (directory / AUTOENCODER_FILE).exists():
        names.append(AUTOENCODER_FILE)
    return names
