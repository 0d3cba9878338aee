"""What a family of models provides, so that loop, generation and stages need not know which one they serve."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax
from flax import nnx

from srum_jax.data.config import Rows
from srum_jax.data.example import Batch, Packer, Tokenizer
from srum_jax.families.costs import Costs
from srum_jax.inference.opened import Opened, SmallFiles
from srum_jax.inference.protocols import Answerer, Checker, Generator, Neurons, Scorer
from srum_jax.models.architecture import Architecture
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.objectives.columns import ColumnNames
from srum_jax.objectives.token_scores import TokenMasks, TokenScores


class Forward(Protocol):
    """From a model and a batch to token scores.

    Attributes:
      image_error: what `TokenScores.image_error` is: the squared error of a flow's velocity, or minus the log
        probability of a code.
    """

    image_error: Literal["flow", "log_prob"]

    def layout(self, batch: Batch) -> Any:
        """How each array of a batch lies on the mesh: a tree of `PartitionSpec` in the shape of the batch."""

    def masks(self, batch: Batch) -> TokenMasks:
        """Which tokens count; a function of the batch alone."""

    def draws(self, key: jax.Array, batch: Batch) -> Any:
        """Every random number of a step, alike on any mesh; a tree of arrays [B, ...]."""

    def scores(self, model: nnx.Module, batch: Batch, draws: Any, *, tap: Tap = no_tap) -> TokenScores:
        """Runs the model; `tap` is called with names and values of intermediates."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One family, as general code gets to see it.

    Attributes:
      architecture: how its models are stored, built and laid out.
      rows: a frozen dataclass of capacities and image sizes, `rows` of an experiment.
      packer: (rows, configuration, tokenizer, columns that the objective wants, checksum of the encoder of stored
        codes) -> what makes rows. Without tokenizer it makes empty ones. ValueError: sizes do not go with the model.
      forward: (configuration, compute) -> how its batches are scored.
      sampler: frozen dataclass of how images are sampled; its defaults are the published settings.
      checker: says what the generator and the answerer would say, from the small files alone.
      generator: makes images, sampled as an instance of `sampler` says.
      answerer: answers questions; None where a family cannot be asked.
      scorer: says how likely the model makes texts and pictures; None where it cannot be asked.
      neurons: says what neurons of its MLPs do; None where they cannot be looked at.
      box_frame: (configuration, height, width) of a picture -> height and width of the same as its models read it, in
        whose pixels they were trained to name boxes; None: they were not.
      plans: whether it can write a plan before a picture (think mode).
      steps: whether it has a whole picture in view at every step of sampling (`OnStep`).
      costs: what its work amounts to; None: nobody has counted it.
    """

    architecture: Architecture
    rows: type[Rows]
    packer: Callable[[Any, Any, Tokenizer | None, ColumnNames, bytes | None], Packer]
    forward: Callable[[Any, ComputeConfig], Forward]
    sampler: type
    checker: Callable[[SmallFiles], Checker]
    generator: Callable[[Opened, Any], Generator]
    answerer: Callable[[Opened], Answerer] | None
    scorer: Callable[[Opened], Scorer] | None = None
    neurons: Callable[[Opened], Neurons] | None = None
    box_frame: Callable[[Any, int, int], tuple[int, int]] | None = None
    plans: bool = False
    steps: bool = False
    costs: Costs | None = None
