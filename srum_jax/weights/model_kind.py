"""What the weights code needs to know of a kind of model, and the kinds that there are."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath
from flax import nnx

from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.model import abstract_bagel
from srum_jax.models.bagel.weights import AUTOENCODER_SOURCES, TABLE, VISION_SOURCES
from srum_jax.models.key_table import Table
from srum_jax.models.layers.logical_axes import dotted


@dataclasses.dataclass(frozen=True)
class Part:
    """A part that a model may be built without.

    Attributes:
      title: for messages.
      sources: how the names of its published tensors begin.
    """

    title: str
    sources: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ModelKind:
    """One architecture.

    Attributes:
      name: as the command line calls it.
      table: published names and ours.
      parts: optional parts by name.
      read_config: the configuration of a checkpoint's directory.
      abstract: (config, parts that are wanted) -> graph definition and abstract state.
    """

    name: str
    table: Table
    parts: Mapping[str, Part]
    read_config: Callable[[epath.PathLike], Any]
    abstract: Callable[[Any, Mapping[str, bool]], tuple[nnx.GraphDef, nnx.State]]

    def shapes(self, config: Any, parts: Mapping[str, bool]) -> dict[str, tuple[int, ...]]:
        """Path and shape of every array of the model."""
        _, state = self.abstract(config, parts)
        return {dotted(path): variable.get_value().shape for path, variable in nnx.to_flat_state(state)}

    def part_of(self, source: str) -> str | None:
        """The optional part that a published tensor belongs to."""
        return next((name for name, part in self.parts.items() if source.startswith(part.sources)), None)


BAGEL = ModelKind(
    name="bagel",
    table=TABLE,
    parts={"vit": Part("vision tower", VISION_SOURCES), "vae": Part("autoencoder", AUTOENCODER_SOURCES)},
    read_config=BagelConfig.from_directory,
    abstract=lambda config, parts: abstract_bagel(config, with_vit=parts["vit"], with_vae=parts["vae"]),
)

KINDS: Mapping[str, ModelKind] = {kind.name: kind for kind in (BAGEL,)}
