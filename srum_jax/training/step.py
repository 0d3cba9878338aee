"""One optimizer step as a pure function, and its compiled form."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import ObjectiveConfig
from srum_jax.objectives.weighted_sum import WeightedSum
from srum_jax.training.config import EmaConfig
from srum_jax.training.ema import averaged
from srum_jax.training.loss import draw_noise, loss_weights, training_loss
from srum_jax.training.state import TrainState, state_shardings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepMetrics:
    """What a step reports. All float32 []."""

    loss: jax.Array
    gradient_norm: jax.Array  # before clipping
    parameter_norm: jax.Array  # before the update
    update_norm: jax.Array
    sums: dict[str, WeightedSum]


Step = Callable[[TrainState, nnx.State, PackedBatch], tuple[TrainState, StepMetrics]]


def make_step(
    graphdef: nnx.GraphDef,
    config: BagelConfig,
    optimizer: optax.GradientTransformation,
    *,
    objective: ObjectiveConfig,
    compute: ComputeConfig,
    accumulation_steps: int = 1,
    reward_limits: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
    ema: EmaConfig | None = None,
) -> Step:
    """The step as a function (state, frozen variables, batch) -> (state, metrics).

    With accumulation the rows of the batch are spread over micro-batches that run one after the other; means are
    taken over the whole batch, so the result is that of one large batch up to rounding.

    Args:
      graphdef: of the model.
      config: of the model.
      optimizer: see `make_optimizer`.
      objective: coefficients of the loss.
      compute: precision, attention route, remat.
      accumulation_steps: micro-batches per step; must divide the rows of the batch.
      reward_limits: ends of the range of R, for logging.
      seed: of the noise, which is a function of seed and step alone.
      ema: how the state's average of the parameters follows them; None if it has none.
    """

    def step(state: TrainState, frozen: nnx.State, batch: PackedBatch) -> tuple[TrainState, StepMetrics]:
        noise = draw_noise(jax.random.fold_in(jax.random.key(seed), state.step), batch, config)
        weights = loss_weights(batch, objective)

        def loss(parameters: nnx.State, micro_batch: PackedBatch, micro_noise):
            model = nnx.merge(graphdef, parameters, frozen)
            return training_loss(model, micro_batch, micro_noise, objective=objective, compute=compute,
                                 weights=weights, reward_limits=reward_limits)

        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        if accumulation_steps == 1:
            (value, sums), gradient = value_and_grad(state.parameters, batch, noise)
        else:
            def accumulate(total, micro):
                part = value_and_grad(state.parameters, *micro)
                return jax.tree.map(jnp.add, total, part), None

            parts = jax.tree.map(lambda x: _micro_batches(x, accumulation_steps), (batch, noise))
            first = jax.tree.map(lambda x: x[0], parts)
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype),
                                 jax.eval_shape(value_and_grad, state.parameters, *first))
            ((value, sums), gradient), _ = jax.lax.scan(accumulate, zeros, parts)

        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters)
        metrics = StepMetrics(
            loss=value,
            gradient_norm=optax.global_norm(gradient),
            parameter_norm=optax.global_norm(state.parameters),
            update_norm=optax.global_norm(updates),
            sums=sums,
        )
        parameters = optax.apply_updates(state.parameters, updates)
        average = None if ema is None else averaged(state.ema, parameters, state.step + 1, ema)
        return TrainState(state.step + 1, parameters, optimizer_state, average), metrics

    return step


def lower_step(
    step: Step, state: TrainState, frozen: nnx.State, batch: PackedBatch, mesh: Mesh
) -> jax.stages.Lowered:
    """The step for the compiler; the state is donated and keeps its layout.

    Args:
      step: see `make_step`.
      state, frozen, batch: arrays, or shapes with shardings.
      mesh: of all of them.
    """
    shardings = state_shardings(state)
    everywhere = NamedSharding(mesh, PartitionSpec())
    with jax.set_mesh(mesh):
        return jax.jit(step, donate_argnums=0, out_shardings=(shardings, everywhere)).lower(state, frozen, batch)


def compile_step(
    step: Step, state: TrainState, frozen: nnx.State, batch: PackedBatch, mesh: Mesh
) -> jax.stages.Compiled:
    """Compiles the step ahead of its first batch; arguments as for `lower_step`."""
    lowered = lower_step(step, state, frozen, batch, mesh)
    with jax.set_mesh(mesh):
        return lowered.compile()


def _micro_batches(x: jax.Array, count: int) -> jax.Array:
    """[R, ...] to [count, R / count, ...]; rows stay on their devices, each of which gives to every micro-batch."""
    return jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0)
