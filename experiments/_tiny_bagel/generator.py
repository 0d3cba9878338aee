"""More training of the generation expert alone; what understands is finished, and stays as it is.

Times are shifted towards noise, as BAGEL's are: what a picture shows, and where, is decided there. Its pictures are
tidy: objects lie in the order in which they are named, so that a small model learns in an hour what belongs where, and
the wrong captions decide how often it is wrong.
"""

import dataclasses
from collections.abc import Callable

import jax
import optax
from flax import nnx

from experiments._tiny_bagel.autoencoder import StageState
from experiments._tiny_bagel.joint import flat_model, flow_matching_loss, optimizer_of
from experiments._tiny_bagel.settings import GeneratorSettings
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.training.state import split_trainable

GeneratorStep = Callable[[StageState, jax.Array, PackedBatch], tuple[StageState, dict[str, jax.Array]]]


def make_generator_step(
    config: BagelConfig, settings: GeneratorSettings, seed: int, model: nnx.State
) -> tuple[StageState, nnx.State, GeneratorStep]:
    """The start of the stage and its compiled step.

    Args:
      config: of the model.
      settings: of the stage.
      seed: of the noise.
      model: all variables after joint training, without autoencoder.

    Returns:
      The first state; all variables that are not trained; and a function
      (state, latents of the pictures float32 [B, C, P], batch) -> (state, losses).
    """
    graphdef = nnx.split(flat_model(dataclasses.replace(config, timestep_shift=settings.timestep_shift), seed))[0]
    parameters, rest = split_trainable(model, ("generation_expert",), BAGEL)
    optimizer = optimizer_of(settings.steps, settings.learning_rate, settings.weight_decay)

    def loss_of(parameters: nnx.State, rest: nnx.State, latent: jax.Array, batch: PackedBatch, key: jax.Array):
        return flow_matching_loss(nnx.merge(graphdef, parameters, rest), batch, latent, key)

    @jax.jit
    def update(state: StageState, rest: nnx.State, latent: jax.Array, batch: PackedBatch):
        key = jax.random.fold_in(jax.random.key(seed + 2), state.step)
        loss, gradient = jax.value_and_grad(loss_of)(state.parameters, rest, latent, batch, key)
        losses = {"flow": loss, "gradient_norm": optax.global_norm(gradient)}
        return state.after(gradient, optimizer, settings.average), losses

    def step(state: StageState, latent: jax.Array, batch: PackedBatch):
        return update(state, rest, latent, batch)

    return StageState.begin(parameters, optimizer), rest, step
