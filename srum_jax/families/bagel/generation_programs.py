"""The programs of generation over arrays that exist by shape and layout alone.

Four programs make an image and its plan: "prefill" reads the prompt, "decode" writes the plan, "denoise" samples the
latents and "pixels" decodes them. Between them the model's weights and the context stay on the devices.

Three more serve a round of SUDER: "read" takes a picture into a context, "score_texts" says how likely a prompt is
behind it, and "score_pictures" how well the flow leads to a picture behind its caption.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from srum_jax.families.abstract_programs import abstract_context, struct
from srum_jax.families.bagel.flow_sampling import LatentLayout
from srum_jax.families.bagel.prefill import NUM_MARKERS
from srum_jax.families.bagel.programs import (
    DECODE_IMAGES,
    FLOW_ERRORS,
    PREFILL_PATCHES,
    PREFILL_TEXT,
    SAMPLE_LATENTS,
    SCORE_TEXT,
    WRITE_TEXT,
)
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.families.costs import Drawing
from srum_jax.inference.batch_shapes import bucket
from srum_jax.inference.programs import Programs
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.settings import TextSampler
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.logical_axes import ROWS

PROGRAMS = {"prefill": PREFILL_TEXT, "decode": WRITE_TEXT, "denoise": SAMPLE_LATENTS, "pixels": DECODE_IMAGES}
REWARD_PROGRAMS = {"read": PREFILL_PATCHES, "score_texts": SCORE_TEXT, "score_pictures": FLOW_ERRORS}
_ASKED_SLOTS = 16  # of a request of up to 14 tokens, as "Describe the image in detail."


def sampler_of(drawing: Drawing) -> FlowSampler:
    """What images are sampled with: the settings that are named, or the published ones with as many times."""
    if drawing.sampler is not None:
        return drawing.sampler
    published = FlowSampler().of_edits() if drawing.editing else FlowSampler()
    return dataclasses.replace(published, num_timesteps=drawing.num_timesteps)


def prompt_slots(drawing: Drawing) -> int:
    """Slots of the context: a prompt, its two markers, padding to a bucket."""
    return bucket(drawing.prompt_tokens + 2)


def num_patches(config: BagelConfig, drawing: Drawing) -> int:
    """Patches of an image of this size, as the vision tower reads it."""
    patch = config.vit.patch_size
    return -(-drawing.height // patch) * -(-drawing.width // patch)


def latent_grid(config: BagelConfig, drawing: Drawing) -> tuple[int, int]:
    """Latent tokens along the sides of one image."""
    return drawing.height // config.latent_stride, drawing.width // config.latent_stride


def question_tokens(config: BagelConfig, drawing: Drawing) -> int:
    """Tokens of an image of this size and of a request behind it; the two markers of the request come on top."""
    return NUM_MARKERS + bucket(num_patches(config, drawing)) + _ASKED_SLOTS - 2


def program_arguments(programs: Programs, name: str, drawing: Drawing) -> tuple:
    """The arguments of one of `PROGRAMS` or `REWARD_PROGRAMS` besides the model's state.

    Prompts are scored behind images of the drawing's size, and such images behind captions that may be as long as its
    texts.
    """
    config, slots, grid = programs.config, prompt_slots(drawing), latent_grid(programs.config, drawing)
    tokens = math.prod(grid)

    def array(*sizes: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return struct(programs.mesh, (drawing.rows, *sizes), dtype, ROWS)

    def context(slots: int):
        return abstract_context(programs, drawing.rows, slots)

    keys = array(dtype=jax.eval_shape(lambda: random_keys([0], Use.NOISE)).dtype)
    latent, layout = array(tokens, config.latent_values, dtype=jnp.float32), LatentLayout(array(tokens), array())
    if name == "pixels":
        return (latent, *grid)
    if name == "prefill":
        return context(slots), array(slots), array()
    if name == "decode":
        return context(slots), keys, array(dtype=bool), TextSampler(drawing.max_tokens)
    if name == "denoise":
        sampler = sampler_of(drawing)
        return [context(slots)] * sampler.guidance.branches, keys, layout, sampler
    if name == "score_pictures":
        captions = context(bucket(max(drawing.max_tokens, drawing.prompt_tokens) + 2))
        return captions, latent, keys, array(drawing.draws, dtype=jnp.float32), layout
    asked = context(bucket(question_tokens(config, drawing) + 2))
    if name == "score_texts":
        return asked, array(slots), array()
    width = bucket(num_patches(config, drawing))
    return asked, array(width, config.vit.patch_values, dtype=jnp.float32), array(width), array()
