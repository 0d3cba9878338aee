"""A checkpoint, opened: its configuration, and its arrays paired with the model that this describes."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from etils import epath
from flax import nnx

from srum_jax.models.architecture import Architecture, shapes_of
from srum_jax.weights.arrays import ArrayReader, ConvertedArrays, PublishedArrays
from srum_jax.weights.converted import MANIFEST, ConvertedSource, is_converted
from srum_jax.weights.errors import WeightsError, raise_together
from srum_jax.weights.huggingface import HuggingFaceSource
from srum_jax.weights.table import make_plan


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
    source = ConvertedSource(path, architecture.name) if converted else HuggingFaceSource(path)
    config = architecture.read_config(source.directory)
    graphdef, abstract = architecture.abstract(config, wanted)
    shapes = shapes_of(abstract)
    present = wanted & {parameter.split(".")[0] for parameter in shapes}
    if converted:
        arrays = _converted(source, architecture, config, shapes)
    else:
        arrays = _published(source, architecture, wanted, shapes)
    return Checkpoint(architecture, source.directory, config, present, graphdef, abstract, arrays)


def _published(
    source: HuggingFaceSource, architecture: Architecture, wanted: frozenset[str], shapes: dict[str, tuple[int, ...]]
) -> PublishedArrays:
    omitted = {
        name: f"the model is built without its {architecture.parts[part].title}"
        for name in source.tensors if (part := architecture.part_of(name)) is not None and part not in wanted
    }
    tensors = {name: tensor for name, tensor in source.tensors.items() if name not in omitted}
    plan = make_plan(architecture.table, tensors, shapes, str(source.path))
    return PublishedArrays(source, dataclasses.replace(plan, ignored={**plan.ignored, **omitted}))


def _converted(
    source: ConvertedSource, architecture: Architecture, config: Any, shapes: dict[str, tuple[int, ...]]
) -> ConvertedArrays:
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
    return ConvertedArrays(source, {parameter: found[parameter] for parameter in shapes}, architecture.table)
