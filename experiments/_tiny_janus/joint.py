"""Joint training of drawing and reading, through the model's own forward pass.

    loss = mean of -log p over codes + mean of -log p over answers' tokens
"""

import jax
import optax
from flax import nnx

from experiments._tiny_bagel.joint import COMPUTE, flat_linears, scaled_start, schedule_of
from experiments._tiny_bases.stage_state import StageState, Step, make_step
from experiments._tiny_janus.samples import Settings
from srum_jax.families.janus_pro.batch import JanusBatch
from srum_jax.families.janus_pro.forward import JanusForward
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.objectives.weighted_sum import WeightedSum


def make_joint_step(
    config: JanusConfig, settings: Settings, seed: int, parameters: nnx.State | None = None
) -> tuple[StageState, Step]:
    """The start of a stage and its compiled step, whose inputs are a batch.

    Args:
      config: of the model.
      settings: of the stage.
      seed: of the initial values.
      parameters: what another stage has learned, to begin with.
    """
    model = flat_linears(JanusPro(config, rngs=nnx.Rngs(seed), parts=("vision",)))
    graphdef, initial = nnx.split(model)
    parameters = scaled_start(initial, config.llm.num_layers, "vision") if parameters is None else parameters
    optimizer, forward = optimizer_of(settings), JanusForward(config, COMPUTE)

    def loss_of(parameters: nnx.State, batch: JanusBatch, _: jax.Array):
        scores, masks = forward.scores(nnx.merge(graphdef, parameters), batch, {}), forward.masks(batch)
        losses = {"codes": WeightedSum.of(scores.image_error, masks.image).mean(),
                  "text": WeightedSum.of(-scores.text_log_prob, masks.text).mean()}
        return losses["codes"] + losses["text"], losses

    return StageState.begin(parameters, optimizer), make_step(loss_of, optimizer, settings.average)


def optimizer_of(settings: Settings) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for the matrices of layers, AdamW for the rest, at one rate."""
    schedule = schedule_of(settings.steps, settings.learning_rate, settings.warmup)

    def matrices(parameters: nnx.State):
        def numbers(path: tuple, value: jax.Array):
            names = [str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path]
            return optax.contrib.MuonDimensionNumbers(1, 2) if "layers" in names and value.ndim == 3 else None

        return jax.tree_util.tree_map_with_path(numbers, parameters)

    return optax.chain(optax.clip_by_global_norm(1.0), optax.contrib.muon(
        schedule, weight_decay=settings.weight_decay, adam_weight_decay=settings.weight_decay, adam_b2=0.98,
        consistent_rms=0.2, muon_weight_dimension_numbers=matrices))
