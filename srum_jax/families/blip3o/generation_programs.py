"""The programs of generation over arrays that exist by shape and layout alone.

Four programs make a picture: "prefill" gives states at the queries, "features" draws picture features for them,
"latents" draws the pixel decoder's latents for these, "pixels" decodes them. "decode" writes an answer.
"""

import jax
import jax.numpy as jnp

from srum_jax.families.abstract_programs import abstract_context, struct
from srum_jax.families.blip3o.generator import PICTURES_AT_ONCE
from srum_jax.families.blip3o.programs import DECODE_PIXELS, DRAW_FEATURES, DRAW_LATENTS, QUERY_STATES, WRITE_TEXT
from srum_jax.families.blip3o.sampler import FeatureSampler, PixelSampler
from srum_jax.families.costs import Drawing
from srum_jax.inference.batch_shapes import bucket
from srum_jax.inference.programs import Programs
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.settings import TextSampler
from srum_jax.models.layers.logical_axes import ROWS

TEMPLATE_TOKENS = 30  # around a caption, by the released tokenizer and with the turn closed
PROGRAMS = {"prefill": QUERY_STATES, "features": DRAW_FEATURES, "latents": DRAW_LATENTS, "pixels": DECODE_PIXELS,
            "decode": WRITE_TEXT}
_TOKEN = 0  # any: what a decoded text follows on


def prompt_slots(drawing: Drawing) -> int:
    """Slots of a prompt with its template, padding included, without [IMG] and queries."""
    return bucket(drawing.prompt_tokens + TEMPLATE_TOKENS)


def pixel_sampler(drawing: Drawing) -> PixelSampler:
    """As published, but for the steps."""
    return PixelSampler(num_steps=drawing.num_timesteps)


def program_arguments(programs: Programs, name: str, drawing: Drawing) -> tuple:
    """The arguments of one of `PROGRAMS` besides the model's state."""
    config, mesh, dtype = programs.config, programs.mesh, programs.compute.compute_dtype
    grid, rows = config.dit.grid, drawing.rows
    if name in ("latents", "pixels"):
        rows = min(rows, PICTURES_AT_ONCE * programs.rows_multiple)

    def array(*sizes: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return struct(mesh, (rows, *sizes), dtype, ROWS)

    keys = array(dtype=jax.eval_shape(lambda: random_keys([0], Use.NOISE)).dtype)
    if name == "prefill":
        slots = bucket(prompt_slots(drawing) + 1 + config.num_queries)
        return array(slots), array(slots, dtype=bool), array()
    if name == "features":
        return array(config.num_queries, config.llm.hidden_size, dtype=dtype), keys, FeatureSampler()
    if name == "decode":
        context = abstract_context(programs, rows, prompt_slots(drawing))
        return context, _TOKEN, keys, array(dtype=bool), TextSampler(drawing.max_tokens)
    if name == "latents":
        negative = struct(mesh, (1, grid, grid, config.dit.channels), jnp.float32)
        return (array(grid, grid, config.dit.channels, dtype=jnp.float32), negative, keys,
                (drawing.height, drawing.width), pixel_sampler(drawing))
    vae = config.pixels.vae
    sides = (side // vae.stride for side in (drawing.height, drawing.width))
    return (array(*sides, vae.latent_channels, dtype=jnp.float32),)
