"""The train step of an experiment for a slice that is only described: what is asked, and what is found out."""

import dataclasses
import json
import math
from typing import Any

from etils import epath

from srum_jax.aot.compiling import CompileResult, run_worker
from srum_jax.aot.topology import Topology, TopologyError
from srum_jax.families.bagel.step_costs import PROMPT_TOKENS
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.compute import MESH_AXES
from srum_jax.overrides import from_json, to_json
from srum_jax.training.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class TrainRequest:
    """One train step for one slice, or several."""

    topology: str  # of one slice
    experiment: Experiment  # with the mesh and the rows of a batch that are meant
    config: BagelConfig
    num_slices: int = 1
    prompt_tokens: int = PROMPT_TOKENS  # of every prompt of the row that is counted
    compiler_options: tuple[str, ...] = ()  # NAME=VALUE
    hlo_file: str | None = None  # where the compiled program's text goes

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return to_json(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainRequest":
        """From what `to_json` gave, after a way through JSON."""
        return from_json(cls, values)

    @property
    def rows(self) -> int:
        """Rows of a batch, over all chips."""
        return self.experiment.data.rows_per_batch


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What the compiler says of a step, and what its text says. FLOPs and bytes are those of one chip and one step."""

    memory: CompileResult
    model_flops: float  # of all chips together
    parameters: int  # that are trained
    padding: float  # share of token slots
    real_tokens: int  # of a batch
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


def complete(experiment: Experiment, mesh: dict[str, int], batch: int | None) -> Experiment:
    """The experiment with a batch that a mesh can take.

    Args:
      experiment: as its file says.
      mesh: sizes of the axes.
      batch: rows; None for the experiment's own, or one for each data x fsdp where those are too few for the mesh.

    Raises:
      TopologyError: the rows cannot be split.
    """
    step = mesh["data"] * mesh["fsdp"] * experiment.training.accumulation_steps
    rows = batch
    if rows is None:
        own = experiment.data.rows_per_batch
        rows = own if own % step == 0 else -(-own // step) * step
    if rows % step:
        raise TopologyError(f"--batch: expected a multiple of {step} (data x fsdp of the mesh, times "
                            f"training.accumulation_steps), found {rows}.")
    for name in ("text_capacity", "vit_capacity", "latent_capacity"):
        if getattr(experiment.data, name) % mesh["seq"]:
            raise TopologyError(f"data.{name}: expected a multiple of seq = {mesh['seq']} of the mesh, found "
                                f"{getattr(experiment.data, name)}.")
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, rows_per_batch=rows))


def mesh_sizes(experiment: Experiment, topology: Topology, num_slices: int) -> dict[str, int]:
    """Sizes of the mesh's axes over all chips.

    Raises:
      MeshError: the experiment's mesh does not multiply to the chips.
      TopologyError: `data` cannot be split among the slices.
    """
    sizes = dict(zip(MESH_AXES, experiment.mesh.shape(topology.num_chips * num_slices), strict=True))
    if sizes["data"] % num_slices:
        raise TopologyError(f"--mesh: expected data to be a multiple of the {num_slices} slices, found "
                            f"{sizes['data']}; the other axes must fit into one slice.")
    return sizes


def compile_training(request: TrainRequest, cache: epath.PathLike | None, *, nice: int = 0) -> TrainResult:
    """Compiles in another process; arguments and exceptions as of `compile_program`."""
    asked = {"request": request.to_json(), "cache": None if cache is None else str(cache)}
    answer = run_worker("srum_jax.aot.training_worker", json.dumps(asked), f"train step for {request.topology}", nice)
    return TrainResult(**answer | {"memory": CompileResult(**answer["memory"])})


def needed_bytes(result: TrainResult) -> float:
    """Memory of one chip; infinite where the compiler refused."""
    return math.inf if result.memory.refusal else result.memory.needed_bytes
