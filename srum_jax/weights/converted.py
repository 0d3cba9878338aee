"""Converted weights: safetensors files with our names and stacked layers; the manifest is written last."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from srum_jax.models.architecture import Architecture
from srum_jax.weights.dtypes import cast
from srum_jax.weights.errors import WeightsError, raise_together
from srum_jax.weights.safetensors_read import Region, SafetensorsFile, layer_boxes

MANIFEST = "srum_weights.json"
FORMAT = "srum_jax weights"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Contents of `srum_weights.json`. Without it a directory is not a checkpoint.

    Attributes:
      model: kind of model, for instance "bagel".
      dtype: "float32", "bfloat16" or "source" (each array as the source stored it).
      parts: optional part -> whether it is there.
      files: file name -> size in bytes.
      tensors: parameter -> file name.
      ignored: source tensor -> why it was left out.
      computed: constants that the source lacked.
    """

    model: str
    dtype: str
    parts: dict[str, bool]
    files: dict[str, int]
    tensors: dict[str, str]
    ignored: dict[str, str] = dataclasses.field(default_factory=dict)
    computed: tuple[str, ...] = ()


class ConvertedArrays:
    """A directory made by `tools.convert_weights import`."""

    def __init__(self, directory: epath.PathLike, architecture: Architecture):
        """Reads the manifest and all headers.

        Raises:
          WeightsError: if the manifest or a file is absent, malformed, of another size or another model.
        """
        self.directory, self._table = epath.Path(directory), architecture.table
        self.manifest = read_manifest(self.directory / MANIFEST)
        if self.manifest.model != architecture.name:
            raise WeightsError(f"{self.directory / MANIFEST}: field 'model': expected {architecture.name!r}, "
                               f"found {self.manifest.model!r}.")
        self._files: dict[str, SafetensorsFile] = {}
        problems = []
        for name, size in self.manifest.files.items():
            try:
                file = SafetensorsFile(self.directory / name)
            except WeightsError as error:
                problems.append(str(error))
                continue
            if file.size != size:
                problems.append(f"{file.path}: expected {size} bytes, found {file.size}; convert again")
            self._files[name] = file
        raise_together(f"{self.directory}: damaged", problems)
        for parameter, name in self.manifest.tensors.items():
            if name not in self._files or parameter not in self._files[name].tensors:
                problems.append(f"{self.directory / MANIFEST}: array '{parameter}': expected in {name}, found "
                                "nothing there; convert again")
        raise_together(f"{self.directory}: damaged", problems)
        self.shapes = {parameter: self._files[name].tensors[parameter].shape
                       for parameter, name in self.manifest.tensors.items()}

    def read(self, parameter: str, region: Region | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """One region of one array."""
        values = self._files[self.manifest.tensors[parameter]].read(parameter, region)
        return values if dtype is None else cast(values, dtype)

    def boxes(self, parameter: str) -> Iterator[Region]:
        """One layer after the other; an array that is not stacked comes whole."""
        return layer_boxes(self.shapes[parameter], stacked=self._table.is_stacked(parameter))


def is_converted(path: epath.PathLike) -> bool:
    """Whether a directory holds converted weights."""
    return (epath.Path(path) / MANIFEST).exists()


def read_manifest(path: epath.Path) -> Manifest:
    """Reads and checks a manifest.

    Raises:
      WeightsError: naming the field, what was expected and what was found.
    """
    try:
        content: Any = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; the directory holds no converted weights, or their "
                           "conversion was interrupted. Convert again.") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error}); convert again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: field 'format': expected {FORMAT!r}, found "
            f"{content.get('format') if isinstance(content, dict) else type(content).__name__!r}."
        )
    if content.get("version") != VERSION:
        raise WeightsError(f"{path}: field 'version': expected {VERSION}, found {content.get('version')!r}; "
                           "convert again with this version.")
    wanted: dict[str, tuple[type, type]] = {
        "parts": (dict, bool), "files": (dict, int), "tensors": (dict, str), "ignored": (dict, str),
    }
    for field, (kind, value_type) in wanted.items():
        value = content.get(field)
        if not isinstance(value, kind) or not all(type(item) is value_type for item in value.values()):
            raise WeightsError(f"{path}: field '{field}': expected an object of {value_type.__name__} "
                               "values; convert again.")
    for file in content["files"]:
        if epath.Path(file).name != file:
            raise WeightsError(f"{path}: field 'files': expected plain file names, found {file!r}.")
    if not isinstance(content.get("model"), str) or not isinstance(content.get("dtype"), str):
        raise WeightsError(f"{path}: fields 'model' and 'dtype': expected strings; convert again.")
    computed = content.get("computed")
    if not isinstance(computed, list) or not all(isinstance(item, str) for item in computed):
        raise WeightsError(f"{path}: field 'computed': expected a list of strings; convert again.")
    fields = {field.name: content[field.name] for field in dataclasses.fields(Manifest)}
    return Manifest(**fields | {"computed": tuple(computed)})
