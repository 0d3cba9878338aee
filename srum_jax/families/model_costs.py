"""What the costs of all families have in common; see `srum_jax.families.costs.Costs`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from etils import epath
from flax import nnx
from jax.sharding import Mesh

from srum_jax.errors import BadInput
from srum_jax.families.costs import Drawing, DrawingProgram
from srum_jax.inference.programs import Programs


class ModelCosts:
    """A `Costs` but for what is counted."""

    released: ClassVar[Mapping[str, Any]]  # configurations by name; "": of the model that is meant where none is named
    config_class: ClassVar[type]
    abstract_programs: ClassVar[Callable[..., tuple[Programs, nnx.State]]]  # without the values; a static method

    def config(self, checkpoint: epath.PathLike, layers: int | None = None) -> Any:
        """That of a directory or of a released model."""
        config = self.released.get(str(checkpoint)) or self.config_class.from_directory(checkpoint)
        if layers is not None:
            config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, num_layers=layers))
        return config

    def num_layers(self, config: Any) -> int:
        """Of the language model."""
        return config.llm.num_layers

    def lower(self, config: Any, mesh: Mesh, drawing: Drawing, program: str, *, dtype: str, attention: str,
              understanding: bool) -> DrawingProgram:
        """See `Costs.lower`."""
        programs, state = self.abstract_programs(config, mesh, dtype=dtype, attention=attention,
                                                 understanding=understanding)
        if drawing.rows % programs.rows_multiple:
            raise BadInput(f"--batch: expected a multiple of {programs.rows_multiple} (data x fsdp of the mesh), "
                           f"found {drawing.rows}.")
        lowered, arguments = self.lower_program(programs, program, drawing)
        return DrawingProgram(lowered, state, arguments)


@dataclasses.dataclass(frozen=True)
class SlotWork:
    """Of one full row of slots; a `RowWork`.

    Attributes:
      config: of the model.
      counts: what the row holds, a dataclass of numbers.
      tokens: see `RowWork`.
      slots: of all its tokens, padding included.
      flops: (configuration, counts, shapes of trained parameters) -> model FLOPs of a step.
    """

    config: Any
    counts: Any
    tokens: int
    slots: int
    flops: Callable[[Any, Any, Mapping[str, tuple[int, ...]]], float]

    @property
    def padding(self) -> float:
        """See `RowWork`."""
        return 1 - self.tokens / self.slots

    def step_flops(self, trained: Mapping[str, tuple[int, ...]], rows: int) -> float:
        """See `RowWork`."""
        return self.flops(self.config, scaled(self.counts, rows), trained)

    def kernel_flops(self, name: str, operands: tuple[tuple[int, ...], ...]) -> float | None:
        """See `RowWork`; not known: prompts are short, and the recipes attend without a kernel."""
        return None


def scaled(counts: Any, rows: int) -> Any:
    """The counts of a batch of equal rows, given those of one: a dataclass of numbers."""
    return type(counts)(*(rows * value for value in dataclasses.astuple(counts)))
