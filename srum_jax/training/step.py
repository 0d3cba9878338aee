"""One optimizer step as a pure function, and its compiled form."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.data.example import Batch
from srum_jax.families.family import Forward
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.objectives.loss import objective_loss, objective_totals
from srum_jax.objectives.objective import Objective
from srum_jax.objectives.token_scores import Columns, error_by_time, token_counts
from srum_jax.objectives.weighted_sum import WeightedSum
from srum_jax.training.config import EmaConfig
from srum_jax.training.ema import averaged
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


Step = Callable[[TrainState, nnx.State, Batch], tuple[TrainState, StepMetrics]]


def make_step(
    graphdef: nnx.GraphDef,
    forward: Forward,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    accumulation_steps: int = 1,
    seed: int = 0,
    ema: EmaConfig | None = None,
    sides_every: int = 0,
    balanced: bool = False,
) -> Step:
    """The step as a function (state, frozen variables, batch) -> (state, metrics).

    With accumulation the rows of the batch are spread over micro-batches that run one after the other; means are
    taken over the whole batch, so the result is that of one large batch up to rounding.

    Args:
      graphdef: of the model.
      forward: from a model and a batch to token scores.
      objective: from token scores to the loss.
      optimizer: see `make_optimizer`.
      accumulation_steps: micro-batches per step; must divide the rows of the batch.
      seed: of the random draws, which are a function of seed and step alone.
      ema: how the state's average of the parameters follows them; None if it has none.
      sides_every: steps after which the gradients of both sides of a `Joint` objective are measured, which takes one
        more backward pass; 0: never.
      balanced: the optimizer scales both sides of a `Joint` objective to one norm, and gets the gradient of pictures in
        every step.
    """

    def step(state: TrainState, frozen: nnx.State, batch: Batch) -> tuple[TrainState, StepMetrics]:
        draws = draws_of_step(forward, seed, state.step, batch)
        totals = objective_totals(objective, forward.masks(batch), columns_of(batch))

        def gradient_of(objective: Objective):
            """((loss, sums), gradient) of the whole batch."""

            def loss(parameters: nnx.State, micro_batch: Batch, micro_draws):
                model = nnx.merge(graphdef, parameters, frozen)
                return share_of_loss(model, forward, objective, micro_batch, micro_draws, totals)

            value_and_grad = jax.value_and_grad(loss, has_aux=True)
            if accumulation_steps == 1:
                return value_and_grad(state.parameters, batch, draws)

            def accumulate(total, micro):
                part = value_and_grad(state.parameters, *micro)
                return jax.tree.map(jnp.add, total, part), None

            parts = jax.tree.map(lambda x: _micro_batches(x, accumulation_steps), (batch, draws))
            first = jax.tree.map(lambda x: x[0], parts)
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype),
                                 jax.eval_shape(value_and_grad, state.parameters, *first))
            return jax.lax.scan(accumulate, zeros, parts)[0]

        (value, sums), gradient = gradient_of(objective)

        def of_generation() -> nnx.State:
            return gradient_of(objective.generation_alone())[1]

        generation = of_generation() if balanced else None
        if sides_every:
            sums |= _sides(gradient, of_generation if generation is None else lambda: generation,
                           (state.step + 1) % sides_every == 0)
        sides = {} if generation is None else {"of_generation": generation}
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters, **sides)
        if balanced:
            sums |= {"norm/understanding_scale": WeightedSum(
                optax.tree.get(optimizer_state, "understanding_scale"), jnp.ones((), jnp.float32))}
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


def _sides(
    whole: nnx.State, of_generation: Callable[[], nnx.State], wanted: jax.Array
) -> dict[str, WeightedSum]:
    """Norms of the shares of a gradient that come from pictures and from texts, and their cosine.

    Args:
      whole: the gradient of both, weighted as in the loss.
      of_generation: computes the share of pictures.
      wanted: bool []; otherwise nothing is computed or counted.
    """

    def measured() -> tuple[jax.Array, jax.Array, jax.Array]:
        generation = of_generation()
        understanding = jax.tree.map(jnp.subtract, whole, generation)
        norms = optax.global_norm(generation), optax.global_norm(understanding)
        product = sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), generation, understanding)))
        # A difference of equal gradients is rounding, and has no direction.
        both = jnp.minimum(*norms) > 1e-5 * jnp.maximum(*norms)
        return *norms, jnp.where(both, product / jnp.maximum(norms[0] * norms[1], 1e-30), 0.0)

    found = jax.lax.cond(wanted, measured, lambda: (jnp.zeros((), jnp.float32),) * 3)
    names = ("norm/gradient_generation", "norm/gradient_understanding", "norm/gradient_cosine")
    return {name: WeightedSum(value, wanted.astype(jnp.float32)) for name, value in zip(names, found, strict=True)}


def draws_of_step(forward: Forward, seed: int, step: jax.Array, batch: Batch) -> Any:
    """The random draws of a step, see `Forward.draws`: a function of seed and step alone.

    Args:
      forward: of the family.
      seed: of the run.
      step: updates done before it, int32 [].
      batch: for its shapes.
    """
    return forward.draws(jax.random.fold_in(jax.random.key(seed), step), batch)


def share_of_loss(
    model: nnx.Module, forward: Forward, objective: Objective, batch: Batch, draws: Any, totals: Any = None, *,
    tap: Tap = no_tap,
) -> tuple[jax.Array, dict[str, WeightedSum]]:
    """A batch's share of the step's loss, float32 [], and what is worth logging.

    Args:
      model: whose loss is meant.
      forward, objective: see `make_step`.
      batch: one batch, or one of the micro-batches of a step.
      draws: of this batch, see `Forward.draws`.
      totals: denominators of the whole step; None: this batch is all of it.
      tap: see `Forward.scores`.
    """
    masks, columns = forward.masks(batch), columns_of(batch)
    scores = forward.scores(model, batch, draws, tap=tap)
    totals = objective_totals(objective, masks, columns) if totals is None else totals
    loss, sums = objective_loss(objective, scores, masks, columns, totals)
    return loss, sums | error_by_time(scores, masks) | token_counts(masks)


def lower_step(
    step: Step, state: TrainState, frozen: nnx.State, batch: Batch, mesh: Mesh
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
    step: Step, state: TrainState, frozen: nnx.State, batch: Batch, mesh: Mesh
) -> jax.stages.Compiled:
    """Compiles the step ahead of its first batch; arguments as for `lower_step`."""
    lowered = lower_step(step, state, frozen, batch, mesh)
    with jax.set_mesh(mesh):
        return lowered.compile()


def columns_of(batch: Batch) -> Columns:
    """What a batch carries for the objective."""
    return Columns(batch.image_columns, batch.text_columns)


def _micro_batches(x: jax.Array, count: int) -> jax.Array:
    """[R, ...] to [count, R / count, ...]; rows stay on their devices, each of which gives to every micro-batch."""
    return jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0)
