"""More training of a trained base, so that it plans before it draws; a control has the same pictures without plans.

A step learns from three batches:

    planned      instruction, caption, plan of the picture (predicted), picture: the context of think mode
    pictures     caption, picture
    questions    picture, question, answer

Captions are wrong as often as in pretraining. A plan is always that of the picture, so a picture never contradicts its
plan, while a plan contradicts its caption as often as pictures do. Captions are left out together with their plans, for
guidance compares with a context of the instruction alone.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments._tiny_bagel.joint import flat_model, loss_and_parts, optimizer_of
from experiments._tiny_bagel.samples import capacities, picture_of, pictures_of, questions_of, words
from experiments._tiny_bagel.settings import SampleSettings, ThinkSettings
from experiments._tiny_bases.stage_state import StageState, Step, make_step
from experiments._tiny_think.plans import MAX_PLAN_TOKENS, THINK_TEMPLATES, plan_text
from srum_jax.data.example import stack_rows
from srum_jax.families.bagel.packing import RowCapacity, pack_row
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, PackedSample, TextItem, pack_sample
from srum_jax.inference.templates import Templates
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.tokenizer import SPECIAL_TOKENS

_PLANNED, _PICTURES, _QUESTIONS = (stream << 32 for stream in (20, 30, 40))  # added to the seed; see `samples`
_DRAWS = 2 << 32  # as in `samples.pictures_of`, so that the control has the same times and the same captions left out


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ThreeBatches:
    """What one step learns from."""

    planned: PackedBatch
    pictures: PackedBatch
    questions: PackedBatch


def three_batches(
    seed: int, step: int, config: BagelConfig, settings: ThinkSettings, samples: SampleSettings
) -> ThreeBatches:
    """What a step learns from.

    Args:
      seed: of the run.
      step: counted from 0.
      config: of the model.
      settings: how many of each kind.
      samples: shares.
    """
    return ThreeBatches(
        planned=_planned_pictures(seed + _PLANNED, step, config, settings, samples),
        pictures=pictures_of(seed + _PICTURES, step, settings.pictures, config, samples, tidy=True),
        questions=questions_of(seed + _QUESTIONS, step, settings.questions, config, samples),
    )


def _planned_pictures(
    seed: int, step: int, config: BagelConfig, settings: ThinkSettings, samples: SampleSettings
) -> PackedBatch:
    if not settings.plans:
        return pictures_of(seed, step, settings.planned, config, samples, tidy=True)
    capacity = plan_capacity(config)
    rows = []
    for number in range(step * settings.planned, (step + 1) * settings.planned):
        rng = np.random.Generator(np.random.Philox(key=[seed + _DRAWS, number]))
        rows.append(pack_row([planned_sample(seed, number, config, samples, rng)], capacity))
    return stack_rows(rows)


def plan_capacity(config: BagelConfig) -> RowCapacity:
    """Buffers that hold any row with a plan."""
    plain, _ = capacities(config)
    more = len(instruction()) + 2 + MAX_PLAN_TOKENS + 2
    return dataclasses.replace(plain, text=plain.text + more, ce=MAX_PLAN_TOKENS + 1)


def planned_sample(
    seed: int, number: int, config: BagelConfig, samples: SampleSettings, rng: np.random.Generator
) -> PackedSample:
    """Instruction, caption, plan and picture in the layout of think mode."""
    example = sample_example(seed, number, samples.wrong_captions, tidy=True)
    side = PICTURE_SIZE // config.latent_stride
    texts = [TextItem(instruction())]
    if rng.random() >= samples.text_dropout:
        texts += [TextItem(words(prompt_text(example.prompt))), TextItem(words(plan_text(example.scene)), loss=True)]
    picture = LatentItem(
        picture_of(example), (side, side), position_ids(side, side, config.max_latent_size), loss=True
    )
    return pack_sample([*texts, picture], SPECIAL_TOKENS, Dropout(), rng)


@functools.lru_cache(maxsize=1)
def instruction() -> tuple[int, ...]:
    """Token ids of the text that asks for a plan."""
    return tuple(words(Templates.read(THINK_TEMPLATES).think_generation))


def make_think_step(
    config: BagelConfig, settings: ThinkSettings, seed: int, model: nnx.State
) -> tuple[StageState, nnx.State, Step]:
    """The start of the training and its compiled step.

    Args:
      config: of the model.
      settings: of the training.
      seed: of the noise.
      model: all variables of a trained base, without autoencoder; both experts and the vision tower are trained.

    Returns:
      The first state; all variables that are not trained; and a step, whose inputs are latents of `planned` and of
      `pictures`, float32 [B, C, P], and the batches.
    """
    graphdef = nnx.split(flat_model(config, seed))[0]
    parameters, rest = nnx.split_state(model, nnx.Param, ...)
    optimizer = optimizer_of(settings.steps, settings.learning_rate, settings.weight_decay)

    def loss_of(parameters: nnx.State, inputs: tuple[jax.Array, jax.Array, ThreeBatches], key: jax.Array):
        model, (planned, plain, batches) = nnx.merge(graphdef, parameters, rest), inputs
        nothing = jnp.zeros((len(batches.questions.text_ids), 0, config.latent_values))
        keys = jax.random.split(key, 3)
        _, planned_parts = loss_and_parts(model, batches.planned, planned, keys[0])
        _, plain_parts = loss_and_parts(model, batches.pictures, plain, keys[1])
        third, _ = loss_and_parts(model, batches.questions, nothing, keys[2])
        share = settings.planned / max(settings.planned + settings.pictures, 1)  # every picture counts the same
        flow = share * planned_parts["flow"] + (1 - share) * plain_parts["flow"]
        total = flow + planned_parts["text"] + third
        parts = {"planned": planned_parts["flow"], "flow": plain_parts["flow"], "plan": planned_parts["text"]}
        return total, parts | {"answer": third}

    return StageState.begin(parameters, optimizer), rest, make_step(loss_of, optimizer, settings.average, seed)
