"""Joint training of understanding and generation, through the model's own forward pass and losses.

    loss = mean |v - (eps - x0)|^2 over latent tokens + cross entropy of answers
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments._tiny_bagel.samples import TwoBatches
from experiments._tiny_bagel.settings import JointSettings
from experiments._tiny_bases.stage_state import StageState, Step, make_step
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.linear import Linear
from srum_jax.objectives.weighted_sum import WeightedSum

COMPUTE = ComputeConfig(dtype="float32", attention="dense", remat="none", scan_layers=False)
_USUAL_DEVIATION = 0.02  # of `Bagel`'s initial values


class FlatLinear(Linear):
    """The same map over all tokens at once: XLA's CPU backend then computes gradients of weights twice as fast."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., in] to [..., out]."""
        flat = x.reshape(-1, x.shape[-1]) @ self.kernel[...]
        return (flat if self.bias is None else flat + self.bias[...]).reshape(*x.shape[:-1], flat.shape[-1])


def make_joint_step(
    config: BagelConfig, settings: JointSettings, seed: int
) -> tuple[StageState, nnx.State, Step]:
    """The start of the run and its compiled step.

    Returns:
      The first state, with values scaled for a small model and both experts equal; variables that are not trained; and
      a step, whose inputs are latents of the pictures float32 [B, C, P], and batches.
    """
    model = flat_model(dataclasses.replace(config, timestep_shift=settings.timestep_shift), seed)
    nnx.update(model.llm.layers.gen, nnx.state(model.llm.layers.und))
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)
    parameters = scaled_start(parameters, config.llm.num_layers, "vit", _USUAL_DEVIATION)
    optimizer = optimizer_of(settings.steps, settings.learning_rate, settings.weight_decay)

    def loss_of(parameters: nnx.State, inputs: tuple[jax.Array, TwoBatches], key: jax.Array):
        model, (latent, batches) = nnx.merge(graphdef, parameters, rest), inputs
        nothing = jnp.zeros((len(batches.understand.text_ids), 0, config.latent_values))
        total, losses = 0.0, {}
        for name, batch, x0 in (("flow", batches.generate, latent), ("answer", batches.understand, nothing)):
            losses[name], _ = loss_and_parts(model, batch, x0, key)
            total += losses[name]
        return total, losses

    return StageState.begin(parameters, optimizer), rest, make_step(loss_of, optimizer, settings.average, seed)


def flat_model(config: BagelConfig, seed: int) -> Bagel:
    """A new model without autoencoder whose linear maps are fast on CPUs."""
    return flat_linears(Bagel(config, rngs=nnx.Rngs(seed), parts=("vit",)))


def flat_linears(model: nnx.Module) -> nnx.Module:
    """The model itself, its linear maps made fast on CPUs."""
    for _, module in nnx.iter_graph(model):
        if type(module) is Linear:
            module.__class__ = FlatLinear
    return model


def loss_and_parts(
    model: Bagel, batch: PackedBatch, latent: jax.Array, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean of |v - (eps - x0)|^2 and cross entropy where texts are to be predicted, float32 []; both by name."""
    forward = BagelForward(model.config, COMPUTE)
    masks = forward.masks(batch)
    scores = forward.scores_of_latents(model, batch, forward.draws(key, batch), latent, latent)
    flow = WeightedSum.of(scores.image_error, masks.image).mean()
    text = WeightedSum.of(-scores.text_log_prob, masks.text > 0).mean()
    return flow + text, {"flow": flow, "text": text}


def optimizer_of(steps: int, learning_rate: float, weight_decay: float) -> optax.GradientTransformation:
    """AdamW at the rate of `schedule_of`."""
    schedule = schedule_of(steps, learning_rate)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=weight_decay))


def schedule_of(steps: int, learning_rate: float, warmup: int | None = None) -> optax.Schedule:
    """The rate rises for so many steps (without: a tenth of all, at most 200) and falls over the last fifth."""
    warmup = min(200, steps // 10 + 1) if warmup is None else min(warmup, steps // 4 + 1)
    decay = steps // 5
    return optax.join_schedules(
        [optax.linear_schedule(0.0, learning_rate, warmup), optax.constant_schedule(learning_rate),
         optax.linear_schedule(learning_rate, 0.0, max(decay, 1))],
        [warmup, steps - decay],
    )


def scaled_start(
    parameters: nnx.State, num_layers: int, tower: str, usual_deviation: float | None = None
) -> nnx.State:
    """Initial values whose scale follows from the widths.

    `Bagel` starts with a deviation of 0.02 everywhere, right for a width of thousands. At 128 what an image contributes
    would drown in the position tables, and hardly anything be learned for a long time.

    Args:
      parameters: of a new model.
      num_layers: of its decoder `llm`.
      tower: the part that reads pictures.
      usual_deviation: that all values have now; None to measure each array's.
    """
    branches = 2 * num_layers  # whose sum keeps about unit scale

    def scale(path: tuple, variable: nnx.Variable) -> nnx.Variable:
        value, names = variable.get_value(), [str(part) for part in path]
        if names[-1] == "kernel" and value.ndim < 4:
            deviation = value.shape[-2] ** -0.5
            if names[-2] in ("out", "down") and names[0] == "llm":
                deviation *= branches**-0.5
        elif names[-1] == "embedding":
            deviation = 0.1 if names[0] == tower else 0.7
        else:
            return variable
        return variable.replace(value * (deviation / (usual_deviation or jnp.maximum(jnp.std(value), 1e-6))))

    return nnx.from_flat_state([(path, scale(path, variable)) for path, variable in nnx.to_flat_state(parameters)])
