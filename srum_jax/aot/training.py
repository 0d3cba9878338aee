"""The train step of an experiment for a slice that is only described: what is asked, and what is found out."""

import dataclasses
from typing import Any

from srum_jax.aot.compiling import CompileResult, costs_of
from srum_jax.aot.topology import Topology, parse_topology
from srum_jax.errors import BadInput
from srum_jax.experiment import load_recipe
from srum_jax.families.family import Family
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import MESH_AXES
from srum_jax.overrides import apply_overrides
from srum_jax.training.abstract_run import check_tokens, rows_of
from srum_jax.training.experiment import Experiment
from srum_jax.training.state import family_of_source

PROMPT_TOKENS = 18  # of about 14 words, the mean of the paper's training prompts


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What the compiler says of a step, and what its text says. FLOPs and bytes are those of one chip and one step."""

    memory: CompileResult
    model_flops: float  # of all chips together
    parameters: int  # that are trained
    padding: float  # share of token slots
    real_tokens: int  # of a batch
    resident_bytes: int = 0  # beside rollouts: of the state, and of the initial weights where rounds need them
    # Of the compiled program; nothing where there was no memory for it.
    product_flops: float = 0.0  # dots and convolutions
    attention_flops: float = 0.0  # kernels
    collectives: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    flops_by_origin: dict[str, float] = dataclasses.field(default_factory=dict)
    unknown_loops: list[str] = dataclasses.field(default_factory=list)
    unknown_kernels: list[str] = dataclasses.field(default_factory=list)

    @property
    def compiled_flops(self) -> float:
        """Of one chip."""
        return self.product_flops + self.attention_flops


@dataclasses.dataclass(frozen=True)
class TrainRequest:
    """One train step for one slice, or several; `plan` finds the experiment that is named."""

    topology: str  # of one slice
    experiment: str  # name, or path of a .py file
    settings: tuple[str, ...] = ()  # a.b=c
    mesh: MeshConfig | None = None  # instead of the experiment's
    rows: int | None = None  # of a batch, over all chips; None: see `complete`
    num_slices: int = 1
    checkpoint: str = ""  # whose JSON files say the sizes; "": the experiment's, else the published model
    layers: int | None = None  # instead of the checkpoint's
    prompt_tokens: int = PROMPT_TOKENS  # of every prompt of the row that is counted
    compiler_options: tuple[str, ...] = ()  # NAME=VALUE
    hlo_file: str | None = None  # where the compiled program's text goes


@dataclasses.dataclass(frozen=True)
class TrainPlan:
    """A request, with what it names."""

    request: TrainRequest  # with the rows that are meant
    experiment: Experiment  # with the mesh and the rows that are meant
    family: Family
    config: Any  # of the model
    mesh: dict[str, int]  # sizes of the axes, over all slices

    @property
    def rows(self) -> int:
        """Rows of a batch, over all chips."""
        return self.experiment.data.rows_per_batch

    @property
    def step(self) -> int:
        """Batches are multiples of this."""
        return self.mesh["data"] * self.mesh["fsdp"] * self.experiment.training.accumulation_steps

    def with_rows(self, rows: int) -> "TrainPlan":
        """The same for another batch."""
        return dataclasses.replace(self, request=dataclasses.replace(self.request, rows=rows),
                                   experiment=complete(self.experiment, self.mesh, rows))


def plan(request: TrainRequest) -> TrainPlan:
    """Finds what a request names.

    Raises:
      BadInput: there is no such experiment, setting or checkpoint, or they do not go together.
    """
    experiment = apply_overrides(load_recipe(request.experiment).experiment, request.settings)
    if experiment.compute.attention == "auto":
        experiment = dataclasses.replace(  # slices that can be described are of TPUs
            experiment, compute=dataclasses.replace(experiment.compute, attention="splash"))
    if request.mesh is not None:
        meant = dataclasses.replace(request.mesh, check_layout=experiment.mesh.check_layout)
        experiment = dataclasses.replace(experiment, mesh=meant)
    source = experiment.model
    if request.checkpoint:
        source = dataclasses.replace(source, checkpoint=request.checkpoint)
    found = family_of_source(source)
    experiment = dataclasses.replace(experiment, rows=rows_of(experiment, found))
    mesh = mesh_sizes(experiment, parse_topology(request.topology), request.num_slices)
    experiment = complete(experiment, mesh, request.rows)
    config = costs_of(found).config(source.checkpoint, request.layers)
    found.packer(experiment.rows, config, None, experiment.objective.columns, None)  # sizes that go with the model
    request = dataclasses.replace(request, rows=experiment.data.rows_per_batch)
    return TrainPlan(request, experiment, found, config, mesh)


def complete(experiment: Experiment, mesh: dict[str, int], batch: int | None) -> Experiment:
    """The experiment with a batch that a mesh can take.

    Args:
      experiment: as its file says.
      mesh: sizes of the axes.
      batch: rows; None for the experiment's own, or one for each data x fsdp where those are too few for the mesh.

    Raises:
      BadInput: the rows cannot be split.
    """
    step = mesh["data"] * mesh["fsdp"] * experiment.training.accumulation_steps
    rows = batch
    if rows is None:
        own = experiment.data.rows_per_batch
        rows = own if own % step == 0 else -(-own // step) * step
    if rows % step:
        raise BadInput(f"--batch: expected a multiple of {step} (data x fsdp of the mesh, times "
                            f"training.accumulation_steps), found {rows}.")
    check_tokens(experiment.rows, mesh)
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, rows_per_batch=rows))


def mesh_sizes(experiment: Experiment, topology: Topology, num_slices: int) -> dict[str, int]:
    """Sizes of the mesh's axes over all chips.

    Raises:
      BadInput: the experiment's mesh does not multiply to the chips; or `data` cannot be split among the slices.
    """
    sizes = dict(zip(MESH_AXES, experiment.mesh.shape(topology.num_chips * num_slices), strict=True))
    if sizes["data"] % num_slices:
        raise BadInput(f"--mesh: expected data to be a multiple of the {num_slices} slices, found "
                            f"{sizes['data']}; the other axes must fit into one slice.")
    return sizes
