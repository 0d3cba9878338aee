"""The tensors of a published checkpoint. Only safetensors and JSON files are ever opened."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from srum_jax.storage.reading import is_hidden
from srum_jax.weights.errors import WeightsError, raise_together
from srum_jax.weights.safetensors_read import Region, SafetensorsFile
from srum_jax.weights.table import SourceTensor
from srum_jax.weights.weight_files import INDEX, WeightFiles

logger = logging.getLogger(__name__)

# Endings of the small files that travel with the weights: configurations, tokenizer, model card.
_COMPANIONS = (".json", ".txt", ".model", ".jinja", ".md")
_LARGEST_COMPANION_BYTES = 64 * 2**20


class PublishedSource:
    """All tensors of some weight files, by the names that the key table knows."""

    def __init__(self, chosen: WeightFiles):
        """Opens the files and reads their headers.

        Raises:
          WeightsError: a file is malformed, or two files hold the same tensor.
        """
        self.chosen = chosen
        self.directory = chosen.directory
        self.files: dict[str, SafetensorsFile] = {}
        self._homes: dict[str, tuple[str, str]] = {}  # tensor -> file, and what that calls it
        self.tensors: dict[str, SourceTensor] = {}
        problems = []
        twice: dict[tuple[str, str], list[str]] = {}
        for path, entry in chosen.entries.items():
            try:
                file = self.files[path] = SafetensorsFile(chosen.directory / path)
            except WeightsError as error:
                problems.append(str(error))
                continue
            for own, tensor in file.tensors.items():
                name = entry.prefix + own
                if name in self._homes:
                    twice.setdefault((self.tensors[name].file, str(file.path)), []).append(name)
                self._homes[name] = path, own
                self.tensors[name] = SourceTensor(tensor.dtype, tensor.shape, str(file.path))
        problems += [f"{first} and {second} both hold '{names[0]}'"
                     f"{f' and {len(names) - 1} more tensors' * (len(names) > 1)}; expected each once, move the "
                     "file that you do not mean elsewhere"
                     for (first, second), names in twice.items()]
        raise_together(f"{chosen.directory}: cannot be read", problems)

    def read(self, name: str, region: Region | None = None) -> np.ndarray:
        """One region of one tensor, in the stored dtype."""
        path, own = self._homes[name]
        return self.files[path].read(own, region)

    def in_order(self) -> list[str]:
        """All tensors as they lie in the files."""
        return sorted(self.tensors, key=lambda name: (list(self.files).index(self._homes[name][0]), self._begin(name)))

    def metadata_of(self, name: str) -> Mapping[str, str]:
        """The free text fields of the file that holds a tensor."""
        return self.files[self._homes[name][0]].metadata

    def doubts(self) -> list[str]:
        """How the checkpoint's index contradicts its files, if it does."""
        held = {file: content.tensors for file, content in self.files.items()}
        lost = [(name, file) for name, file in self.chosen.index.items() if file in held and name not in held[file]]
        doubts = list(self.chosen.doubts)
        if lost:
            doubts.append(f"{self.directory / INDEX} names {len(lost)} tensors that the files do not hold, for "
                          f"instance '{lost[0][0]}' in {lost[0][1]}")
        return doubts

    def companions(self) -> list[epath.Path]:
        """Configurations, tokenizer files and the like that belong to the checkpoint."""
        return companion_files(self.directory, self.chosen.folders)

    def _begin(self, name: str) -> tuple[int, int]:
        path, own = self._homes[name]
        entry = self.files[path].tensors[own]
        return entry.begin, entry.end


def companion_files(directory: epath.Path, folders: Sequence[str] = ()) -> list[epath.Path]:
    """The small files beside the weights, and those up to two levels down in some directories, sorted by name."""
    files = []
    inside = [path for folder in folders for level in ("*", "*/*") for path in (directory / folder).glob(level)]
    for path in [*sorted(directory.iterdir()), *sorted(inside)]:
        wanted = ((path.name.endswith(_COMPANIONS) or path.name.startswith(("LICENSE", "NOTICE")))
                  and not is_hidden(path.name))
        ours = path.name in ("srum_weights.json", "export_report.json")
        if not wanted or ours or path.name.endswith(".safetensors.index.json") or not path.is_file():
            continue
        if path.stat().length > _LARGEST_COMPANION_BYTES:
            logger.warning("%s is not copied: %d bytes is too large for a configuration or tokenizer file.",
                            path, path.stat().length)
            continue
        files.append(path)
    return files
