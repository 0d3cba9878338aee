"""What a family can say of work without doing it: FLOPs of a train step, programs of generation and what they cost.

Training reports model FLOPs by it; `aot/` compiles by it what nobody has the chips for, and compares.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
from etils import epath
from jax.sharding import Mesh

from srum_jax.data.config import Rows


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


class Costs(Protocol):
    """Attributes: `programs` of generation, in the order in which they run; `search_order`, the same with those that
    need most memory first; `image_programs`, those that make an image; `text_program`, which writes a plan;
    `reward_programs`, those that score in a round of SUDER."""

    programs: tuple[str, ...]
    search_order: tuple[str, ...]
    image_programs: tuple[str, ...]
    text_program: str
    reward_programs: tuple[str, ...]

    def config(self, checkpoint: epath.PathLike, layers: int | None = None) -> Any:
        """The configuration of a checkpoint, of the published model for ""; perhaps with another number of layers.

        Raises:
          ConfigError: naming file and field.
        """

    def num_layers(self, config: Any) -> int:
        """Of the decoder."""

    def step_flops(self, config: Any, batch: Any, trained: Mapping[str, tuple[int, ...]] | None = None) -> float:
        """Model FLOPs of one step: the matrix products that it cannot do without, over the real tokens of a batch.

        Args:
          config: of the model.
          batch: of the family, NumPy arrays.
          trained: shapes of the trained parameters by name; None for all of a full training.
        """

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

    def check(self, config: Any, drawing: Drawing) -> None:
        """Raises BadInput where the model cannot draw that."""

    def side(self, config: Any) -> int:
        """Pixels along a side of what the model draws where nothing else is asked for."""

    def prompt_slots(self, drawing: Drawing) -> int:
        """Slots that a prompt takes, padding included."""

    def question_tokens(self, config: Any, drawing: Drawing) -> int:
        """Tokens of a short question about a picture of this size, which an answer follows: `prompt_tokens` of the
        drawing that writes it; 0 where the family cannot be asked."""

    def reward_costs(self, config: Any, drawing: Drawing) -> dict[str, Cost]:
        """What SUDER's rewards cost: "pictures", the likelihood of the prompt given one, and "captions", that of the
        picture given one; for prompts and captions of the full length. Empty where the family cannot be asked."""

    def drawing_costs(self, config: Any, drawing: Drawing) -> dict[str, Cost]:
        """The cost of every program, for prompts of the full length and plans of the full limit."""

    def lower(self, config: Any, mesh: Mesh, drawing: Drawing, program: str, *, dtype: str, attention: str,
              understanding: bool, quantize: str | None = None) -> DrawingProgram:
        """One program, ready to be compiled.

        Raises:
          BadInput: the mesh does not divide the weights, or the rows.
        """
