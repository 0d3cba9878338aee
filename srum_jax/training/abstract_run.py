"""A run by shapes and layouts alone, to lower and compile its step for devices that are not at hand."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from srum_jax.data.config import Rows
from srum_jax.data.example import Batch
from srum_jax.errors import BadInput
from srum_jax.families.family import Family, Forward
from srum_jax.mesh import on_mesh
from srum_jax.models.layers.logical_axes import TOKENS, laid_out
from srum_jax.models.layers.quantized import as_loaded
from srum_jax.training.experiment import Experiment
from srum_jax.training.lora import attach_factors
from srum_jax.training.optimizer import make_optimizer
from srum_jax.training.state import (
    TrainState,
    abstract_train_state,
    check_quantized,
    family_of_source,
    parts_of,
    split_trainable,
)
from srum_jax.training.step import Step, make_step


@dataclasses.dataclass(frozen=True)
class AbstractRun:
    """The step, and its arguments as `jax.ShapeDtypeStruct` with shardings."""

    optimizer: optax.GradientTransformation  # of the step
    step: Step
    state: TrainState
    frozen: nnx.State
    batch: Batch


def abstract_run(experiment: Experiment, config: Any, mesh: Mesh) -> AbstractRun:
    """What `load_model`, `new_train_state` and the pipeline would make, without making it.

    Args:
      experiment: neither its records nor the weights of its checkpoint are looked at.
      config: of the model.
      mesh: of real or described devices.
    """
    source, optimizer = experiment.model, make_optimizer(experiment.optimizer, balanced=experiment.balanced)
    family = family_of_source(source)
    architecture = family.architecture
    stored_codes = rows_of(experiment, family).stored_codes
    graphdef, abstract = architecture.abstract(config, parts_of(source, architecture, stored_codes))
    whole = laid_out(abstract, mesh, architecture.rules)
    if source.lora is None:
        trained, frozen = split_trainable(whole, source.trainable, architecture)
        check_quantized(source, trained)
    else:
        graphdef, factors = attach_factors(graphdef, abstract, source.lora, architecture)
        trained, frozen = laid_out(factors, mesh, architecture.rules), whole
    frozen = as_loaded(frozen, lambda _: jnp.dtype(experiment.compute.dtype), source.quantize)
    forward = family.forward(config, experiment.compute)
    return AbstractRun(
        optimizer=optimizer,
        step=make_step(
            graphdef, forward, experiment.objective, optimizer, seed=experiment.seed, ema=experiment.ema,
            accumulation_steps=experiment.training.accumulation_steps, sides_every=experiment.sides_every,
            balanced=experiment.balanced,
        ),
        state=abstract_train_state(trained, optimizer, mesh, with_ema=experiment.ema is not None),
        frozen=frozen,
        batch=abstract_batch(experiment, family, config, forward, mesh),
    )


def abstract_batch(experiment: Experiment, family: Family, config: Any, forward: Forward, mesh: Mesh) -> Batch:
    """The shapes and layouts of a whole batch, over all processes: those of an empty row."""
    packer = family.packer(rows_of(experiment, family), config, None, experiment.objective.columns, None)
    rows = experiment.data.rows_per_batch
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype), packer.empty_row().finish())
    shardings = on_mesh(mesh, forward.layout(batch))
    return jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                        batch, shardings)


def rows_of(experiment: Experiment, family: Family) -> Rows:
    """How an experiment lays out samples for a family.

    Raises:
      BadInput: it says so for another family.
    """
    rows = family.rows() if experiment.rows is None else experiment.rows
    if not isinstance(rows, family.rows):
        raise BadInput(f"rows: expected {family.rows.__name__}, as model.checkpoint is {family.architecture.name}, "
                         f"found {type(rows).__name__}.")
    return rows


def check_tokens(rows: Rows, mesh: Mapping[str, int]) -> None:
    """Raises BadInput unless a mesh of these sizes can split the tokens of rows."""
    for name in rows.token_capacities:
        if getattr(rows, name) % mesh[TOKENS]:
            raise BadInput(f"rows.{name}: expected a multiple of seq = {mesh[TOKENS]} of the mesh, found "
                           f"{getattr(rows, name)}.")
