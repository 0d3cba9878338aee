"""What a run carries from step to step, and where it lies on the mesh."""

import dataclasses
import fnmatch

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.errors import BadInput
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.training.lora import LoraConfig, attach_factors, initial_factors
from srum_jax.weights.load import load_bagel

# What the published recipe trains: both experts, embeddings and heads, and the latent projections.
GENERATION = ("llm.*", "time_embedder.*", "vae2llm.*", "llm2vae.*")
# The same without the understanding expert, which then cannot forget.
GENERATION_EXPERT_ONLY = ("llm.layers.gen.*", "llm.gen_norm.*", "time_embedder.*", "vae2llm.*", "llm2vae.*")
# Never trained, whatever the patterns say: the reference keeps both fixed in its recipes.
_ALWAYS_FROZEN = ("vae.*", "vit.*")


class ModelError(BadInput):
    """The model cannot be trained as asked."""


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Where the weights come from, and which of them are trained."""

    checkpoint: str = ""  # a published checkpoint's directory, or converted weights
    understanding: bool = False  # load the vision tower
    trainable: tuple[str, ...] = GENERATION  # patterns over parameter names, as in a shell
    timestep_shift: float | None = None  # of the training times; None: what the model's config.json says
    lora: LoraConfig | None = None  # train low-rank factors alone, whatever `trainable` says


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

    config: BagelConfig
    graphdef: nnx.GraphDef
    trained: nnx.State
    frozen: nnx.State


def load_model(source: ModelSource, mesh: Mesh, compute_dtype: str, seed: int = 0) -> LoadedModel:
    """Loads the weights straight onto the mesh: trained ones as float32, the others in the compute dtype.

    Args:
      source: what to load and what to train.
      mesh: where everything lies.
      compute_dtype: of what is not trained.
      seed: of low-rank factors.

    Raises:
      ModelError: if no checkpoint is named, or a pattern of `source.trainable` selects nothing.
      WeightsError, ConfigError, ShardingError: see `load_bagel`.
    """
    if not source.checkpoint:
        raise ModelError("model.checkpoint: expected the directory of a BAGEL checkpoint, found nothing; set it with "
                         "--set model.checkpoint=DIR.")

    def dtype_of(path: str) -> str:
        return "float32" if source.lora is None and _selected(path, source.trainable) else compute_dtype

    config, graphdef, state = load_bagel(source.checkpoint, mesh=mesh, dtype=dtype_of,
                                         with_vit=source.understanding)
    if source.timestep_shift is not None:
        config = dataclasses.replace(config, timestep_shift=source.timestep_shift)
        graphdef = _with_config(graphdef, state, config)
    if source.lora is not None:
        graphdef, factors = attach_factors(graphdef, state, source.lora)
        return LoadedModel(config, graphdef, initial_factors(factors, seed, mesh), state)
    trained, frozen = split_trainable(state, source.trainable)
    return LoadedModel(config, graphdef, trained, frozen)


def split_trainable(state: nnx.State, patterns: tuple[str, ...]) -> tuple[nnx.State, nnx.State]:
    """Splits a model's state into what is trained and what is not.

    Raises:
      ModelError: naming each pattern that selects no parameter.
    """
    names = [dotted(path) for path, variable in nnx.to_flat_state(state) if isinstance(variable, nnx.Param)]
    idle = [pattern for pattern in patterns if not any(_selected(name, (pattern,)) for name in names)]
    if idle or not patterns:
        raise ModelError(f"model.trainable: {', '.join(map(repr, idle)) or 'an empty list'} selects no parameter of "
                         "this model that can be trained (vae and vit cannot); names look like "
                         "'llm.layers.gen.query.kernel'.")
    return nnx.split_state(
        state, lambda path, variable: isinstance(variable, nnx.Param) and _selected(dotted(path), patterns), ...
    )


def new_train_state(
    trained: nnx.State, optimizer: optax.GradientTransformation, mesh: Mesh, *, with_ema: bool = False
) -> TrainState:
    """The state before the first step; moments and averages are made where their parameters lie."""
    moments = optimizer_shardings(trained, optimizer, mesh)
    return TrainState(
        step=jax.jit(lambda: jnp.zeros((), jnp.int32), out_shardings=NamedSharding(mesh, PartitionSpec()))(),
        parameters=trained,
        optimizer=jax.jit(optimizer.init, out_shardings=moments)(trained),
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

    parameters = jax.tree.map(lambda leaf: struct(leaf, leaf.sharding), trained)
    return TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec())),
        parameters=parameters,
        optimizer=jax.tree.map(
            struct, jax.eval_shape(optimizer.init, trained), optimizer_shardings(trained, optimizer, mesh)
        ),
        ema=parameters if with_ema else None,
    )


def optimizer_shardings(trained: nnx.State, optimizer: optax.GradientTransformation, mesh: Mesh) -> optax.OptState:
    """Where each moment lies: with its parameter. Left to XLA, zeros would be replicated on every device.

    Args:
      trained: arrays, or their shapes with shardings.
      optimizer: whose state is meant.
      mesh: where counters are replicated.
    """
    return optax.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        jax.eval_shape(optimizer.init, trained),
        jax.tree.map(lambda parameter: parameter.sharding, trained),
        transform_non_params=lambda _: NamedSharding(mesh, PartitionSpec()),
    )


def state_shardings(state: TrainState) -> TrainState:
    """Where every array of a state lies."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def _copy(parameters: nnx.State) -> nnx.State:
    """The same values in arrays of their own: the step is given both, and may overwrite either."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, parameters)
    return jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=shardings)(parameters)


def _selected(path: str, patterns: tuple[str, ...]) -> bool:
    def matches(candidates: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in candidates)

    return matches(patterns) and not matches(_ALWAYS_FROZEN)


def _with_config(graphdef: nnx.GraphDef, state: nnx.State, config: BagelConfig) -> nnx.GraphDef:
    model = nnx.merge(graphdef, state)
    model.config = config
    return nnx.split(model)[0]
