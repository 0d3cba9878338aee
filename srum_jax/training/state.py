"""What a run carries from step to step, and where it lies on the mesh."""

import dataclasses
import fnmatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.errors import BadInput, Failure, check
from srum_jax.families import registry
from srum_jax.families.family import Family
from srum_jax.models.architecture import Architecture
from srum_jax.models.layers.logical_axes import dotted, shapes_by_name
from srum_jax.models.layers.quantized import quantizable
from srum_jax.training.config import ModelSource
from srum_jax.training.lora import attach_factors, initial_factors
from srum_jax.weights.checkpoint import Checkpoint, encoder_sha256, open_checkpoint
from srum_jax.weights.load import load


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The part of a run that a step changes; donated to it."""

    step: jax.Array  # int32 [], updates done
    parameters: nnx.State  # the trained ones, float32
    optimizer: optax.OptState  # float32 moments, laid out like their parameters
    ema: nnx.State | None = None  # average of the parameters, float32, laid out like them


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model's fixed structure and its two kinds of variable."""

    family: Family  # that it belongs to
    checkpoint: Checkpoint  # that was loaded
    config: Any  # the checkpoint's, with what the source changes
    graphdef: nnx.GraphDef
    trained: nnx.State
    frozen: nnx.State


def family_of_source(source: ModelSource) -> Family:
    """The family that a source names, or else that of its checkpoint.

    Raises:
      BadInput: it names neither.
      WeightsError: there is no such family, or the checkpoint shows no sign of any.
    """
    if source.family:
        return registry.family(source.family)
    if not source.checkpoint:
        raise BadInput("model.checkpoint: expected the directory of a checkpoint, found nothing; set it with "
                         "--set model.checkpoint=DIR.")
    return registry.family_of(source.checkpoint)


def parts_of(source: ModelSource, architecture: Architecture, stored_codes: bool) -> frozenset[str]:
    """The optional parts that a run's model has.

    Args:
      source: may name more of them.
      architecture: of the model.
      stored_codes: whether records bring the codes of their pictures.

    Raises:
      BadInput: the source names a part that the architecture has not.
    """
    if unknown := [part for part in source.parts if part not in architecture.parts]:
        raise BadInput(f"model.parts: {architecture.name} has no optional part {unknown[0]!r}; there are: "
                         f"{', '.join(architecture.parts)}.")
    uses = {"train"} if stored_codes else {"train", "encode"}
    return architecture.parts_for(uses) | frozenset(source.parts)


def load_model(
    source: ModelSource, mesh: Mesh, compute_dtype: str, seed: int = 0, *, stored_codes: bool = False
) -> LoadedModel:
    """Loads the weights straight onto the mesh: trained ones as float32, the others in the compute dtype.

    Args:
      source: what to load and what to train.
      mesh: where everything lies.
      compute_dtype: of what is not trained.
      seed: of low-rank factors.
      stored_codes: see `parts_of`.

    Raises:
      BadInput: if no checkpoint is named, or a setting of `source` selects nothing that there is.
      WeightsError, ConfigError, BadInput: see `open_checkpoint` and `load`.
    """
    if not source.checkpoint:
        raise BadInput("model.checkpoint: expected the directory of a checkpoint, found nothing; set it with "
                         "--set model.checkpoint=DIR.")
    family = family_of_source(source)
    architecture = family.architecture
    checkpoint = open_checkpoint(source.checkpoint, architecture, parts_of(source, architecture, stored_codes))
    config, graphdef = with_training_times(checkpoint.config, source), checkpoint.graphdef
    if config != checkpoint.config:
        graphdef = _with_config(graphdef, checkpoint.abstract, config)
    if source.lora is not None:
        graphdef, factors = attach_factors(graphdef, checkpoint.abstract, source.lora, architecture)
        _, frozen = load(checkpoint, mesh=mesh, dtype=compute_dtype, quantize=source.quantize)
        factors = initial_factors(factors, seed, mesh, architecture)
        return LoadedModel(family, checkpoint, config, graphdef, factors, frozen)
    trained = split_trainable(checkpoint.abstract, source.trainable, architecture)[0]
    check_quantized(source, trained)
    names = shapes_by_name(trained)
    _, state = load(checkpoint, mesh=mesh, dtype=lambda name: "float32" if name in names else compute_dtype,
                    quantize=source.quantize)
    return LoadedModel(family, checkpoint, config, graphdef, *split_trainable(state, source.trainable, architecture))


def check_quantized(source: ModelSource, trained: nnx.State) -> None:
    """Raises BadInput where what a source trains would be kept as integers, which have no gradients."""
    if source.quantize and (names := sorted(quantizable(trained))):
        raise BadInput(f"model.quantize: {source.quantize} matrices cannot be trained: model.trainable selects "
                       f"{names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "")
                       + "; set model.lora, which trains factors beside them, or leave model.quantize out.")


def with_training_times(config: Any, source: ModelSource) -> Any:
    """A model's configuration with the shift of the training times that `source` states.

    Raises:
      BadInput: the model is not trained at times.
    """
    if source.timestep_shift is None:
        return config
    check("model.timestep_shift", hasattr(config, "timestep_shift"), "nothing for a model that learns no flow",
          source.timestep_shift)
    return dataclasses.replace(config, timestep_shift=source.timestep_shift)


def split_trainable(
    state: nnx.State, trainable: tuple[str, ...], architecture: Architecture
) -> tuple[nnx.State, nnx.State]:
    """Splits a model's state into what is trained and what is not.

    Args:
      state: of the whole model.
      trainable: see `ModelSource`.
      architecture: of the model; has the presets.

    Raises:
      BadInput: naming each pattern that selects no parameter.
    """
    patterns = _patterns(trainable, architecture)
    names = [dotted(path) for path, variable in nnx.to_flat_state(state) if isinstance(variable, nnx.Param)]
    idle = [pattern for pattern in patterns
            if not any(_selected(name, (pattern,), architecture) for name in names)]
    if idle or not patterns:
        example = next(name for name in names if _selected(name, ("*",), architecture))
        raise BadInput(f"model.trainable: {', '.join(map(repr, idle)) or 'an empty list'} selects no parameter of "
                         f"this model that can be trained ({', '.join(architecture.never_trained)} cannot); names look "
                         f"like '{example}', and there are the presets {', '.join(architecture.trainable)}.")

    def is_trained(path: tuple, variable: nnx.Variable) -> bool:
        return isinstance(variable, nnx.Param) and _selected(dotted(path), patterns, architecture)

    return nnx.split_state(state, is_trained, ...)


def new_train_state(
    trained: nnx.State, optimizer: optax.GradientTransformation, mesh: Mesh, *, with_ema: bool = False
) -> TrainState:
    """The state before the first step; moments and averages are made where their parameters lie."""
    layout = state_shardings(abstract_train_state(trained, optimizer, mesh))
    return TrainState(
        step=jax.jit(lambda: jnp.zeros((), jnp.int32), out_shardings=layout.step)(),
        parameters=trained,
        optimizer=jax.jit(optimizer.init, out_shardings=layout.optimizer)(trained),
        ema=_copy(trained) if with_ema else None,
    )


def abstract_train_state(
    trained: nnx.State, optimizer: optax.GradientTransformation, mesh: Mesh, *, with_ema: bool = False
) -> TrainState:
    """Shapes and layouts of `new_train_state`, as `jax.ShapeDtypeStruct`; nothing is allocated.

    Args:
      trained: arrays, or their shapes with shardings.
      optimizer: see `make_optimizer`.
      mesh: where counters are replicated.
      with_ema: whether there is an average of the parameters.
    """
    def struct(leaf, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    everywhere = NamedSharding(mesh, PartitionSpec())
    parameters = jax.tree.map(lambda leaf: struct(leaf, leaf.sharding), trained)
    return TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere),
        parameters=parameters,
        # Moments lie with their parameters. Left to XLA, zeros would be replicated on every device.
        optimizer=optax.tree_map_params(
            optimizer, lambda moment, parameter: struct(moment, parameter.sharding),
            jax.eval_shape(optimizer.init, trained), trained,
            transform_non_params=lambda leaf: struct(leaf, everywhere),
        ),
        ema=parameters if with_ema else None,
    )


def state_shardings(state: TrainState) -> TrainState:
    """Where every array of a state lies."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def _copy(parameters: nnx.State) -> nnx.State:
    """The same values in arrays of their own: the step is given both, and may overwrite either."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, parameters)
    return jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=shardings)(parameters)


def _patterns(trainable: tuple[str, ...], architecture: Architecture) -> tuple[str, ...]:
    """The same with presets replaced by their patterns."""
    return tuple(pattern for name in trainable for pattern in architecture.trainable.get(name, (name,)))


def _selected(parameter: str, patterns: tuple[str, ...], architecture: Architecture) -> bool:
    def matches(candidates: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(parameter, pattern) for pattern in candidates)

    return matches(patterns) and not matches(architecture.never_trained)


def _with_config(graphdef: nnx.GraphDef, state: nnx.State, config: Any) -> nnx.GraphDef:
    model = nnx.merge(graphdef, state)
    model.config = config
    return nnx.split(model)[0]


def sha256_of_encoder(source: ModelSource, model: LoadedModel) -> bytes:
    """Checksum of the weights that stored codes must come from; the first process reads them for all: gigabytes.

    Args:
      source: of the model.
      model: as it was loaded, with the encoder or without.

    Raises:
      WeightsError: the encoder cannot be read; a Failure in the other processes.
    """
    digest = np.zeros(32, np.uint8)
    try:
        if jax.process_index() == 0:
            digest = np.frombuffer(_sha256_of_encoder(source, model), np.uint8)
    finally:  # also where it cannot be read: the others wait
        digest = np.asarray(multihost_utils.broadcast_one_to_all(digest))
    if not digest.any():
        raise Failure("The checksum of the encoder is not known: process 0 could not read its weights, and says why.")
    return digest.tobytes()


def _sha256_of_encoder(source: ModelSource, model: LoadedModel) -> bytes:
    architecture = model.family.architecture
    part = architecture.encoder.partition(".")[0]
    if part in model.checkpoint.parts:
        return encoder_sha256(model.checkpoint)
    # Codes are all that is needed of it: it was not loaded.
    return encoder_sha256(open_checkpoint(source.checkpoint, architecture, {part}))
