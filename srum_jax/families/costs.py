"""What a family can say of work without doing it: FLOPs of a train step, programs of generation and what they cost.

Training reports model FLOPs by it; `aot/` compiles by it what nobody has the chips for, and compares.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from srum_jax.data.config import Rows
from srum_jax.errors import BadInput
from srum_jax.inference.programs import Program, Programs
from srum_jax.models.architecture import Architecture
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import laid_out
from srum_jax.models.layers.quantized import as_loaded


@dataclasses.dataclass(frozen=True)
class Cost:
    """Work of one program on one row of a batch, and what a batch shares."""

    flops: float = 0.0  # per row
    activation_bytes: float = 0.0  # per row: inputs and outputs of matrix products, keys and values of the context
    weight_bytes: float = 0.0  # per batch: all passes over the weights, before they are split over chips
    passes: float = 0.0  # over the layers, per batch
    summed_values: float = 0.0  # per row: of the residual stream, that chips which split heads have to add up

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    def __mul__(self, times: float) -> "Cost":
        return Cost(*(value * times for value in dataclasses.astuple(self)))


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A batch of images that is to be generated, as far as it fixes the programs."""

    rows: int  # images
    prompt_tokens: int = 254  # of the longest prompt, without what the family puts around it
    height: int = 1024  # pixels
    width: int = 1024
    num_timesteps: int = 50  # of sampling
    max_tokens: int = 1000  # of a plan
    editing: bool = False  # with the settings of editing
    sampler: Any = None  # of the family's kind; None: the published one with `num_timesteps`
    draws: int = 8  # times at which the error of a flow is looked at, to reward a caption


@dataclasses.dataclass(frozen=True)
class DrawingProgram:
    """One program of generation, or of rewards, over arrays that exist by shape and layout alone."""

    lowered: jax.stages.Lowered
    state: Any  # the model's variables, all of them, read by this program or not
    arguments: tuple


class RowWork(Protocol):
    """What one full row of a train step holds and costs."""

    padding: float  # share of its slots that hold no token
    tokens: int  # that it holds

    def step_flops(self, trained: Mapping[str, tuple[int, ...]], rows: int) -> float:
        """Model FLOPs of a step over so many equal rows; arguments as of `Costs.step_flops`."""

    def kernel_flops(self, name: str, operands: tuple[tuple[int, ...], ...]) -> float | None:
        """FLOPs of one call of an attention kernel on one chip, by its name and the shapes of its operands.

        None: it is not known.
        """


class Costs(abc.ABC):
    """Of one family."""

    architecture: ClassVar[Architecture]
    released: ClassVar[Mapping[str, Any]]  # configurations by name; "": of the model that is meant where none is named
    drawn_by: ClassVar[Mapping[str, Program]]  # programs of generation, in the order in which they run
    rewarded_by: ClassVar[Mapping[str, Program]] = {}  # those that score in a round of SUDER
    search_order: ClassVar[tuple[str, ...]]  # of `drawn_by`, those that need most memory first
    image_programs: ClassVar[tuple[str, ...]]  # of `drawn_by`, those that make an image
    text_program: ClassVar[str]  # of `drawn_by`, which writes a plan

    def config(self, checkpoint: epath.PathLike, layers: int | None = None) -> Any:
        """The configuration of a checkpoint or released model, of that which is meant for ""; perhaps with another
        number of layers.

        Raises:
          ConfigError: naming file and field.
        """
        config = self.released.get(str(checkpoint)) or self.architecture.read_config(checkpoint)
        if layers is not None:
            config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, num_layers=layers))
        return config

    @abc.abstractmethod
    def step_flops(self, config: Any, batch: Any, trained: Mapping[str, tuple[int, ...]] | None = None) -> float:
        """Model FLOPs of one step: the matrix products that it cannot do without, over the real tokens of a batch.

        Args:
          config: of the model.
          batch: of the family, NumPy arrays.
          trained: shapes of the trained parameters by name; None for all of a full training.
        """

    @abc.abstractmethod
    def full_row(self, rows: Rows, config: Any, prompt_tokens: int, *, block: int, seq: int) -> RowWork:
        """A row with as many samples as are packed, each with an image that fills the canvas.

        Args:
          rows: sizes and capacities.
          config: of the model.
          prompt_tokens: of every sample.
          block: tokens per block of the attention kernel; 0 for other routes.
          seq: parts into which the queries of a row are split.

        Raises:
          CapacityError: the samples do not fit into a row.
        """

    @abc.abstractmethod
    def check(self, config: Any, drawing: Drawing) -> None:
        """Raises BadInput where the model cannot draw that."""

    @abc.abstractmethod
    def side(self, config: Any) -> int:
        """Pixels along a side of what the model draws where nothing else is asked for."""

    @staticmethod
    @abc.abstractmethod
    def prompt_slots(drawing: Drawing) -> int:
        """Slots that a prompt takes, padding included."""

    def question_tokens(self, config: Any, drawing: Drawing) -> int:
        """Tokens of a short question about a picture of this size, which an answer follows: `prompt_tokens` of the
        drawing that writes it; 0 where the family cannot be asked."""
        return 0

    def reward_costs(self, config: Any, drawing: Drawing) -> dict[str, Cost]:
        """What SUDER's rewards cost: "pictures", the likelihood of the prompt given one, and "captions", that of the
        picture given one; for prompts and captions of the full length. Empty where the family cannot be asked."""
        return {}

    @staticmethod
    @abc.abstractmethod
    def drawing_costs(config: Any, drawing: Drawing) -> dict[str, Cost]:
        """The cost of every program of generation, for prompts of the full length and plans of the full limit."""

    @staticmethod
    @abc.abstractmethod
    def arguments(programs: Programs, program: str, drawing: Drawing) -> tuple:
        """Those of a program besides the model's state; rows are a multiple of `programs.rows_multiple`."""

    def lower(self, config: Any, mesh: Mesh, drawing: Drawing, program: str, *, dtype: str, attention: str,
              quantize: str | None = None) -> DrawingProgram:
        """One program, ready to be compiled.

        Raises:
          BadInput: the mesh does not divide the weights, or the rows.
        """
        programs, state = self.without_values(config, mesh, dtype=dtype, attention=attention, quantize=quantize)
        if drawing.rows % programs.rows_multiple:
            raise BadInput(f"--batch: expected a multiple of {programs.rows_multiple} (data x fsdp of the mesh), "
                           f"found {drawing.rows}.")
        arguments = self.arguments(programs, program, drawing)
        lowered = programs.lower({**self.drawn_by, **self.rewarded_by}[program], *arguments)
        return DrawingProgram(lowered, state, arguments)

    def without_values(self, config: Any, mesh: Mesh, *, dtype: str = "bfloat16", attention: str = "splash",
                       quantize: str | None = None) -> tuple[Programs, nnx.State]:
        """What `srum_jax.pipeline.load` makes of a checkpoint, and its state, without the values.

        Args:
          config: of the model.
          mesh: that it lies on.
          dtype: of the weights, and of computing.
          attention: route, see `ComputeConfig`.
          quantize: integers that matrices of layers are kept in, see `models.layers.quantized`; None: the dtype.

        Raises:
          BadInput: if the mesh does not divide the weights.
        """
        graphdef, abstract = self.architecture.abstract(config, self.architecture.parts_for({"draw", "read"}))
        state = as_loaded(
            laid_out(abstract, mesh, self.architecture.rules),
            lambda name: jnp.float32 if name.startswith(self.architecture.float32) else jnp.dtype(dtype), quantize)
        return Programs(graphdef, state, mesh, ComputeConfig(dtype=dtype, attention=attention, remat="none")), state


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
