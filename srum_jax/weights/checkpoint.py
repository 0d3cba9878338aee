"""A checkpoint, opened: its configuration, and its arrays paired with the model that this describes."""

import dataclasses
import hashlib
import logging
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath
from flax import nnx

from srum_jax.models.architecture import Architecture
from srum_jax.models.layers.logical_axes import shapes_by_name
from srum_jax.weights.arrays import ArrayReader, PublishedArrays
from srum_jax.weights.converted import MANIFEST, ConvertedArrays, is_converted
from srum_jax.weights.errors import WeightsError, raise_together
from srum_jax.weights.misfits import absent_parts, common_cause
from srum_jax.weights.published import PublishedSource
from srum_jax.weights.table import paired
from srum_jax.weights.weight_files import choose_files

_LOGGER = logging.getLogger(__name__)
_LOGGER.setLevel(logging.INFO)  # whatever a command shows of others, it shows which weights are read


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Weights that fit their model; of them only headers were read so far.

    Attributes:
      architecture: of the model.
      directory: that holds the small files.
      config: of the model.
      parts: the optional parts that the model has.
      graphdef, abstract: the model's structure and the shapes of its variables.
      arrays: the weights.
    """

    architecture: Architecture
    directory: epath.Path
    config: Any
    parts: frozenset[str]
    graphdef: nnx.GraphDef
    abstract: nnx.State
    arrays: ArrayReader

    @property
    def published(self) -> PublishedArrays:
        """The arrays of a published checkpoint, with what its files call them.

        Raises:
          WeightsError: the weights are converted ones.
        """
        if not isinstance(self.arrays, PublishedArrays):
            raise WeightsError(f"{self.directory}: expected a published checkpoint, found converted weights "
                               f"({MANIFEST}); give the directory that they were converted from.")
        return self.arrays


def encoder_sha256(checkpoint: Checkpoint) -> bytes:
    """SHA-256 over the names, shapes and float32 values of the weights that turn pictures into stored codes, 32 bytes.

    The same for every form of a checkpoint that holds the same values; another one where they were rounded to another
    precision. Of BAGEL's released autoencoder, the encoder has 34 million values.

    Args:
      checkpoint: opened with the part that `architecture.encoder` lies in.
    """
    arrays, prefix = checkpoint.arrays, checkpoint.architecture.encoder
    digest = hashlib.sha256()
    for parameter in sorted(name for name in arrays.shapes if name.startswith(prefix)):
        digest.update(f"{parameter} {list(arrays.shapes[parameter])}\n".encode())
        values = np.ascontiguousarray(arrays.read(parameter, None, np.dtype(np.float32)), "<f4")
        digest.update(values.reshape(-1).view(np.uint8))
    return digest.digest()


def open_checkpoint(
    path: epath.PathLike, architecture: Architecture, parts: Iterable[str] | None = None
) -> Checkpoint:
    """Opens a published checkpoint or converted weights, and pairs all arrays with the model.

    Args:
      path: a published checkpoint (its directory, or one safetensors file of it), or converted weights.
      architecture: of the model.
      parts: optional parts that the model is to have, where its configuration describes them; None for all.

    Raises:
      WeightsError: files are absent or malformed, or do not fit the configuration; all problems together.
      ConfigError: the configuration is unusable.
    """
    wanted = frozenset(architecture.parts if parts is None else parts)
    converted = is_converted(path)
    if converted:
        source = ConvertedArrays(path, architecture)
        _say(f"{path}: reading converted weights ({MANIFEST} is there)")
    else:
        chosen = choose_files(path, architecture, wanted)
        _say(f"{chosen.directory}: reading {', '.join(chosen.entries)} ({chosen.why})")
        source = PublishedSource(chosen)
    config = architecture.read_config(source.directory)
    graphdef, abstract = architecture.abstract(config, wanted)
    shapes = shapes_by_name(abstract)
    present = wanted & {parameter.split(".")[0] for parameter in shapes}
    if converted:
        _check_converted(source, architecture, config, shapes)
    arrays = source if converted else _published(source, architecture, wanted, shapes)
    return Checkpoint(architecture, source.directory, config, present, graphdef, abstract, arrays)


def _say(line: str) -> None:
    """What is read is said, also where nobody has set up logging."""
    if _LOGGER.hasHandlers():
        _LOGGER.info("%s", line)
    else:
        print(f"INFO: {line}", file=sys.stderr)


def _published(
    source: PublishedSource, architecture: Architecture, wanted: frozenset[str], shapes: Mapping[str, tuple[int, ...]]
) -> PublishedArrays:
    parts = {name: architecture.part_of(name) for name in source.tensors}
    omitted = {name: f"the model is built without its {architecture.parts[part].title}"
               for name, part in parts.items() if part is not None and part not in wanted}
    tensors = {name: tensor for name, tensor in source.tensors.items() if name not in omitted}
    doubts, absent = source.doubts(), absent_parts(architecture, tensors, shapes)
    complete = {name: shape for name, shape in shapes.items() if architecture.part_of_parameter(name) not in absent}
    plan, problems = paired(architecture.table_of(tensors), tensors, complete)
    if absent or problems:
        if cause := common_cause(architecture, tensors, shapes):
            raise WeightsError(f"{source.chosen}: {cause}.")
        raise_together(f"{source.chosen}: does not fit the model", [*doubts, *absent.values(), *problems])
    for doubt in [*source.chosen.stale, *doubts]:
        _LOGGER.warning("%s; the files alone are complete, and are read.", doubt)
    return PublishedArrays(source, dataclasses.replace(plan, ignored={**plan.ignored, **omitted}))


def _check_converted(
    source: ConvertedArrays, architecture: Architecture, config: Any, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    found = source.shapes
    problems = []
    for parameter, shape in shapes.items():
        if parameter not in found:
            absent = [title.title for part, title in architecture.parts.items()
                      if not source.manifest.parts.get(part, True)]
            advice = f"; it was converted without its {' and '.join(absent)}" if absent else "; convert again"
            problems.append(f"array '{parameter}' is missing: expected shape {shape}{advice}")
        elif found[parameter] != shape:
            problems.append(f"array '{parameter}': expected shape {shape}, found {found[parameter]}; the JSON files "
                            "beside it were changed, or describe another model")
    if extra := found.keys() - shapes.keys():
        everything = architecture.shapes(config, architecture.parts)
        problems += [f"array '{parameter}' {found[parameter]} is extra: expected no such array in this model; convert "
                     "again" for parameter in sorted(extra) if parameter not in everything]
    raise_together(f"{source.directory / MANIFEST}: does not fit the model", problems)
