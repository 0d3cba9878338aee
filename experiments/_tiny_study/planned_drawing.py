"""Pictures that are planned first with given plans, and a model's own plans."""

from collections.abc import Sequence

import jax
import numpy as np

from experiments._tiny_bases.measure import in_parts
from experiments._tiny_think.plans import PLAN_TOKEN_LIMIT, plan_text
from srum_jax.families.bagel.conversation import Conversation, text_slots
from srum_jax.families.bagel.flow_sampling import LatentLayout
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.programs import DECODE_IMAGES, SAMPLE_LATENTS, finite_pixels
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.settings import TextSampler
from srum_jax.pipeline import Pipeline
from srum_jax.worlds.shapes.layout import draft_of, lay_out_tidily
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.scene import Prompt

_BATCH = 64
PLAN = TextSampler(max_tokens=PLAN_TOKEN_LIMIT)  # greedy, as `srum_jax.generate --think` writes by default


def draw_with_plans(
    pipeline: Pipeline, prompts: Sequence[Prompt], plans: Sequence[str], sampler: FlowSampler, seed: int
) -> list[np.ndarray]:
    """Pictures as `measure.draw` draws them with PLAN, but with given plans: the same order of texts, the same noise.

    Args:
      pipeline: with the templates of this world.
      prompts: one picture each.
      plans: of the prompts.
      sampler: of the pictures.
      seed: picture k has the seed `seed + k`.
    """
    programs, encode = pipeline.generator.programs, pipeline.generator.opened.tokenizer.encode
    pictures, side = [], PICTURE_SIZE // programs.config.latent_stride
    rows = list(zip((prompt_text(prompt) for prompt in prompts), plans, range(seed, seed + len(prompts)), strict=True))
    for batch in in_parts(rows, _BATCH):
        conversation = _asked(pipeline, [text for text, _, _ in batch])
        conversation.add_plan([encode(plan, control_tokens=True) for _, plan, _ in batch])
        places = position_ids(side, side, programs.config.max_latent_size)
        layout = LatentLayout(np.tile(places, (len(batch), 1)).astype(np.int32), np.full(len(batch), side**2, np.int32))
        latent = programs.call(
            SAMPLE_LATENTS, conversation.branches(sampler.guidance.branches),
            random_keys([seed for _, _, seed in batch], Use.NOISE), layout, sampler,
        )
        pixels, _ = finite_pixels(programs.call(DECODE_IMAGES, latent, side, side))
        pictures += list(np.asarray(pixels))
    return pictures


def write_plans(pipeline: Pipeline, prompts: Sequence[Prompt], sampler: TextSampler, seed: int) -> list[str]:
    """Plans alone; that of prompt k has the seed `seed + k`."""
    plans = []
    for batch in in_parts(list(zip(prompts, range(seed, seed + len(prompts)), strict=True)), _BATCH):
        conversation = _asked(pipeline, [prompt_text(prompt) for prompt, _ in batch])
        keys = random_keys([seed for _, seed in batch], Use.TEXT)
        written = jax.device_get(conversation.write(keys, np.ones(len(batch), bool), sampler))
        plans += [pipeline.generator.opened.tokenizer.decode(ids[1:length].tolist())  # without the starting marker
                  for ids, length in zip(written.token_ids, written.num_tokens, strict=True)]
    return plans


def true_plans(prompts: Sequence[Prompt], seed: int) -> list[str]:
    """A right plan for each prompt, as the training pictures have them; open colours are random."""
    return [plan_text(lay_out_tidily(draft_of(prompt, np.random.Generator(np.random.Philox(key=[seed, number])))))
            for number, prompt in enumerate(prompts)]


def _asked(pipeline: Pipeline, texts: Sequence[str]) -> Conversation:
    """Instruction and prompts, as think mode gives them; rows must be a multiple of the generator's `rows_multiple`."""
    opened = pipeline.generator.opened
    instruction = opened.tokenizer.encode(opened.templates.think_generation, control_tokens=True)
    asked = [opened.tokenizer.encode(text) for text in texts]
    slots = text_slots(opened.programs, [instruction]) + text_slots(opened.programs, asked)
    conversation = Conversation(opened.programs, len(asked), slots, image_guidance=False)
    conversation.add_system([instruction] * len(asked))
    conversation.add_text(asked)
    return conversation
