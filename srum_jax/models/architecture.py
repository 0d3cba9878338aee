"""How a model is stored, built and laid out: all that loading, converting and compiling ahead need to know of one."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from etils import epath

from srum_jax.models.key_table import Table

if TYPE_CHECKING:
    from flax import nnx

    from srum_jax.models.layers.logical_axes import Rules

# Train on pictures; make the codes that it is trained on, where records do not bring them; draw; answer questions.
Use = Literal["train", "encode", "draw", "read"]


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """Files of a published checkpoint that hold tensors.

    Entries of equal `prefix` and `part` are alternatives: they hold the same tensors, and one of them is read.

    Attributes:
      glob: of paths relative to the checkpoint's directory; shards of one entry are read together.
      prefix: put before the names of their tensors; "" leaves them as they are.
      part: optional part that the files hold; None for the model itself.
      pickled: published as a pickled file, of which `tools.convert_weights unpickle` makes this one.
    """

    glob: str
    prefix: str = ""
    part: str | None = None
    pickled: bool = False


@dataclasses.dataclass(frozen=True)
class Part:
    """A part that a model may be built without.

    Attributes:
      title: for messages.
      sources: how the names of its published tensors begin.
      needed_to: the uses that a model without it cannot be put to.
    """

    title: str
    sources: tuple[str, ...]
    needed_to: frozenset[Use]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One architecture. Nothing in it runs.

    Attributes:
      name: as the command line calls it.
      files: what a published checkpoint keeps its tensors in.
      table: published names and ours.
      other_tables: the same of further layouts that the weights are published in.
      parts: optional parts by name, which is also the first word of their parameters' paths.
      read_config: the configuration of a checkpoint's directory; raises ConfigError naming file and field.
      abstract: (configuration, parts that are wanted) -> graph definition and state of `jax.ShapeDtypeStruct`.
      rules: logical axis -> mesh axes.
      trainable: presets of patterns over parameters' paths; "default" is the published recipe.
      never_trained: patterns that win over everything.
      linear_maps: what LoRA may name -> path in the model.
      encoder: how the parameters of what turns pictures into stored codes begin.
      float32: how the names of parameters begin that generation keeps in float32 whatever the dtype.
    """

    name: str
    files: tuple[WeightFile, ...]
    table: Table
    parts: Mapping[str, Part]
    read_config: Callable[[epath.PathLike], Any]
    abstract: Callable[[Any, frozenset[str]], "tuple[nnx.GraphDef, nnx.State]"]
    rules: "Rules"
    trainable: Mapping[str, tuple[str, ...]]
    never_trained: tuple[str, ...]
    linear_maps: Mapping[str, str]
    encoder: str
    float32: tuple[str, ...] = ()
    other_tables: tuple[Table, ...] = ()

    def table_of(self, sources: Collection[str]) -> Table:
        """The table of the layout that most of some published tensors have the names of."""
        return max((self.table, *self.other_tables), key=lambda table: sum(map(table.knows, sources)))

    def parts_for(self, uses: Iterable[Use]) -> frozenset[str]:
        """The optional parts that a model needs for some uses."""
        wanted = frozenset(uses)
        return frozenset(name for name, part in self.parts.items() if part.needed_to & wanted)

    def part_of(self, source: str) -> str | None:
        """The optional part that a published tensor belongs to."""
        return next((name for name, part in self.parts.items() if source.startswith(part.sources)), None)

    def part_of_parameter(self, parameter: str) -> str | None:
        """The optional part that a parameter belongs to."""
        return next((self.part_of(rule.source) for rule, _ in self.table.rules_for(parameter)), None)

    def home_of(self, source: str) -> WeightFile:
        """The file that a published tensor is written to: one of its part's own, or that of the model itself."""
        part = self.part_of(source)
        own = [file for file in self.files if file.part == part and source.startswith(file.prefix)]
        return (own or [file for file in self.files if file.part is None])[0]

    def alternatives_of(self, file: WeightFile) -> list[str]:
        """The other names that one file with the same tensors may have."""
        return [other.glob for other in self.files
                if other != file and (other.prefix, other.part) == (file.prefix, file.part) and "*" not in other.glob]

    @property
    def folders(self) -> tuple[str, ...]:
        """Directories inside a checkpoint's that hold weights, and small files that belong to them."""
        return tuple(dict.fromkeys(file.glob.split("/")[0] for file in self.files if "/" in file.glob))

    def shapes(self, config: Any, parts: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Path and shape of every array of a model with the given parts."""
        from srum_jax.models.layers.logical_axes import shapes_by_name  # JAX: those who look at files need none

        return shapes_by_name(self.abstract(config, frozenset(parts))[1])
