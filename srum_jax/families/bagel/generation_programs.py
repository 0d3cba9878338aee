"""The programs of generation over arrays that exist by shape and layout alone.

Four programs make an image and its plan: "prefill" reads the prompt, "decode" writes the plan, "denoise" samples the
latents and "pixels" decodes them. Between them the model's weights and the context stay on the devices.

Three more serve a round of SUDER: "read" takes a picture into a context, "score_texts" says how likely a prompt is
behind it, and "score_pictures" how well the flow leads to a picture behind its caption.
"""

import dataclasses

import jax
import jax.numpy as jnp

from srum_jax.errors import BadInput
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
from srum_jax.inference.batch_shapes import bucket
from srum_jax.inference.programs import Programs
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.settings import TextSampler
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.layers.logical_axes import ROWS

PROGRAMS = {"prefill": PREFILL_TEXT, "decode": WRITE_TEXT, "denoise": SAMPLE_LATENTS, "pixels": DECODE_IMAGES}
REWARD_PROGRAMS = {"read": PREFILL_PATCHES, "score_texts": SCORE_TEXT, "score_pictures": FLOW_ERRORS}
_ASKED_SLOTS = 16  # of a request of up to 14 tokens, as "Describe the image in detail."
_PLAN, _SAMPLER = TextSampler(), FlowSampler()


@dataclasses.dataclass(frozen=True)
class GenerationShape:
    """What is to be generated, as far as it fixes the programs."""

    rows: int  # images in one batch
    prompt_tokens: int = 254  # of the longest prompt; its two markers and the padding to a bucket come on top
    height: int = 1024  # pixels
    width: int = 1024
    sampler: FlowSampler = _SAMPLER
    text: TextSampler = _PLAN

    @property
    def prompt_slots(self) -> int:
        """Slots of the context."""
        return bucket(self.prompt_tokens + 2)

    def num_patches(self, config: BagelConfig) -> int:
        """Patches of an image of this size, as the vision tower reads it."""
        patch = config.vit.patch_size
        return -(-self.height // patch) * -(-self.width // patch)

    def check(self, config: BagelConfig) -> None:
        """Raises BadInput, naming the field, where the model cannot make that."""
        most = config.max_latent_size * config.latent_stride
        for name in ("height", "width"):
            side = getattr(self, name)
            if side % config.latent_stride or not 0 < side <= most:
                raise BadInput(f"{name}: expected a multiple of {config.latent_stride} pixels, at most {most}; found "
                               f"{side}.")

    def latent_grid(self, config: BagelConfig) -> tuple[int, int]:
        """Latent tokens along the sides."""
        return self.height // config.latent_stride, self.width // config.latent_stride

    def latent_tokens(self, config: BagelConfig) -> int:
        """Latent tokens of one image."""
        rows, columns = self.latent_grid(config)
        return rows * columns


def program_arguments(programs: Programs, name: str, shape: GenerationShape) -> tuple:
    """The arguments of one of `PROGRAMS` besides the model's state."""
    config, rows = programs.config, shape.rows

    def array(*sizes: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return struct(programs.mesh, (rows, *sizes), dtype, ROWS)

    if name == "pixels":
        latent = array(shape.latent_tokens(config), config.latent_values, dtype=jnp.float32)
        return (latent, *shape.latent_grid(config))
    context = abstract_context(programs, rows, shape.prompt_slots)
    if name == "prefill":
        return context, array(shape.prompt_slots), array()
    keys = array(dtype=jax.eval_shape(lambda: random_keys([0], Use.NOISE)).dtype)
    if name == "decode":
        return context, keys, array(dtype=bool), shape.text
    layout = LatentLayout(array(shape.latent_tokens(config)), array())
    return [context] * shape.sampler.guidance.branches, keys, layout, shape.sampler


def question_tokens(config: BagelConfig, shape: GenerationShape) -> int:
    """Tokens of an image of this size and of a request behind it; the two markers of the request come on top."""
    return NUM_MARKERS + bucket(shape.num_patches(config)) + _ASKED_SLOTS - 2


def reward_arguments(programs: Programs, name: str, shape: GenerationShape, draws: int) -> tuple:
    """The arguments of one of `REWARD_PROGRAMS` besides the model's state.

    Args:
      programs: of the model.
      name: of the program.
      shape: prompts of its length are scored behind images of its size, and such images behind captions that may be as
        long as its texts.
      draws: times at which the flow's error is looked at.
    """
    config, rows = programs.config, shape.rows

    def array(*sizes: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return struct(programs.mesh, (rows, *sizes), dtype, ROWS)

    asked = abstract_context(programs, rows, bucket(question_tokens(config, shape) + 2))
    if name == "read":
        width = bucket(shape.num_patches(config))
        return asked, array(width, config.vit.patch_values, dtype=jnp.float32), array(width), array()
    if name == "score_texts":
        return asked, array(shape.prompt_slots), array()
    captions = abstract_context(programs, rows, bucket(max(shape.text.max_tokens, shape.prompt_tokens) + 2))
    keys = array(dtype=jax.eval_shape(lambda: random_keys([0], Use.NOISE)).dtype)
    tokens = shape.latent_tokens(config)
    latent, times = (array(*sizes, dtype=jnp.float32) for sizes in ((tokens, config.latent_values), (draws,)))
    return captions, latent, keys, times, LatentLayout(array(tokens), array())
