"""More training of the generation expert alone; what understands is finished, and stays as it is.

Times are shifted towards noise, as BAGEL's are: what a picture shows, and where, is decided there. Its pictures are
tidy: objects lie in the order in which they are named, so that a small model learns in an hour what belongs where, and
the wrong captions decide how often it is wrong.
"""

import dataclasses
from typing import Any

import jax
from flax import nnx

from experiments._tiny_bagel.joint import flat_model, loss_and_parts, optimizer_of
from experiments._tiny_bagel.settings import GeneratorSettings
from experiments._tiny_bases.stage_state import StageState, Step, make_step
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.training.state import split_trainable


def make_generator_step(
    config: BagelConfig, settings: GeneratorSettings, seed: int, model: nnx.State
) -> tuple[StageState, nnx.State, Step]:
    """The start of the stage and its compiled step.

    Args:
      config: of the model.
      settings: of the stage.
      seed: of the noise.
      model: all variables after joint training, without autoencoder.

    Returns:
      The first state; all variables that are not trained; and a step, whose inputs are latents of the pictures
      float32 [B, C, P], and a batch.
    """
    graphdef = nnx.split(flat_model(dataclasses.replace(config, timestep_shift=settings.timestep_shift), seed))[0]
    parameters, rest = split_trainable(model, ("generation_expert",), BAGEL)
    optimizer = optimizer_of(settings.steps, settings.learning_rate, settings.weight_decay)

    def loss_of(parameters: nnx.State, inputs: tuple[nnx.State, Any], key: jax.Array):
        rest, (latent, batch) = inputs
        loss, _ = loss_and_parts(nnx.merge(graphdef, parameters, rest), batch, latent, key)
        return loss, {"flow": loss}

    step = make_step(loss_of, optimizer, settings.average, seed + 2)
    # Closed over, what is not trained would be constants of the program.
    return StageState.begin(parameters, optimizer), rest, lambda state, inputs: step(state, (rest, inputs))
