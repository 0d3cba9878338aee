"""What the costs of all families have in common; see `srum_jax.families.costs.Costs`."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from etils import epath
from flax import nnx
from jax.sharding import Mesh

from srum_jax.errors import BadInput
from srum_jax.families.abstract_programs import programs_without_values
from srum_jax.families.costs import Cost, Drawing, DrawingProgram
from srum_jax.inference.programs import Program, Programs
from srum_jax.models.architecture import Architecture
from srum_jax.models.compute import ComputeConfig


class ModelCosts(abc.ABC):
    """A `Costs` but for what is counted."""

    architecture: ClassVar[Architecture]
    float32: ClassVar[tuple[str, ...]] = ()  # see `Family`
    released: ClassVar[Mapping[str, Any]]  # configurations by name; "": of the model that is meant where none is named
    drawn_by: ClassVar[Mapping[str, Program]]  # in the order in which they run
    rewarded_by: ClassVar[Mapping[str, Program]] = {}

    @property
    def programs(self) -> tuple[str, ...]:
        """See `Costs`."""
        return tuple(self.drawn_by)

    @property
    def reward_programs(self) -> tuple[str, ...]:
        """See `Costs`."""
        return tuple(self.rewarded_by)

    @staticmethod
    @abc.abstractmethod
    def arguments(programs: Programs, program: str, drawing: Drawing) -> tuple:
        """Those of a program besides the model's state; rows are a multiple of `programs.rows_multiple`."""

    def config(self, checkpoint: epath.PathLike, layers: int | None = None) -> Any:
        """That of a directory or of a released model."""
        config = self.released.get(str(checkpoint)) or self.architecture.read_config(checkpoint)
        if layers is not None:
            config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, num_layers=layers))
        return config

    def question_tokens(self, config: Any, drawing: Drawing) -> int:
        """See `Costs.question_tokens`."""
        return 0

    def reward_costs(self, config: Any, drawing: Drawing) -> dict[str, Cost]:
        """See `Costs.reward_costs`."""
        return {}

    def num_layers(self, config: Any) -> int:
        """Of the language model."""
        return config.llm.num_layers

    def lower(self, config: Any, mesh: Mesh, drawing: Drawing, program: str, *, dtype: str, attention: str,
              understanding: bool, quantize: str | None = None) -> DrawingProgram:
        """See `Costs.lower`."""
        programs, state = self.without_values(config, mesh, dtype=dtype, attention=attention,
                                              understanding=understanding, quantize=quantize)
        if drawing.rows % programs.rows_multiple:
            raise BadInput(f"--batch: expected a multiple of {programs.rows_multiple} (data x fsdp of the mesh), "
                           f"found {drawing.rows}.")
        arguments = self.arguments(programs, program, drawing)
        lowered = programs.lower({**self.drawn_by, **self.rewarded_by}[program], *arguments)
        return DrawingProgram(lowered, state, arguments)

    def without_values(self, config: Any, mesh: Mesh, *, dtype: str = "bfloat16", attention: str = "splash",
                       understanding: bool = True, quantize: str | None = None) -> tuple[Programs, nnx.State]:
        """See `programs_without_values`."""
        compute = ComputeConfig(dtype=dtype, attention=attention, remat="none")
        uses = {"draw", "read"} if understanding else {"draw"}
        return programs_without_values(self.architecture, config, mesh, compute, uses, self.float32, quantize)


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
