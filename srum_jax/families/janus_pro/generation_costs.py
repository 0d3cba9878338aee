"""The programs of generation over arrays that exist by shape and layout alone, and what they cost.

"codes" reads prompts and draws all codes, "pixels" decodes them; "decode" writes an answer. Counted are matrix products
and convolutions as often as the loops around them turn; weights are read once in every pass.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.families.abstract_programs import abstract_context, struct
from srum_jax.families.costs import Cost, Drawing
from srum_jax.families.counted_costs import WEIGHT_BYTES, decode_cost, products
from srum_jax.families.janus_pro.code_sampling import Prompts, gumbel_noise, sample_codes
from srum_jax.families.janus_pro.programs import DECODE_CODES, DRAW_CODES, WRITE_TEXT
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.inference.batch_shapes import bucket
from srum_jax.inference.programs import Programs
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.settings import TextSampler
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.layers.logical_axes import ROWS, shapes_by_name

TEMPLATE_TOKENS = 8  # around a caption: the first token, roles and what separates them, the token before the picture
FLOAT32 = ("vq.",)
PROGRAMS = {"codes": DRAW_CODES, "pixels": DECODE_CODES, "decode": WRITE_TEXT}
_COMPUTE = ComputeConfig(dtype="bfloat16", attention="dense", remat="none")
_TOKEN = 0  # any: what a decoded text follows on
_READ_EACH_STEP = ("llm.layers.", "gen_head.", "gen_aligner.")


def prompt_slots(drawing: Drawing) -> int:
    """Slots of a prompt with its template, padding included."""
    return bucket(drawing.prompt_tokens + TEMPLATE_TOKENS)


def generation_costs(config: JanusConfig, drawing: Drawing) -> dict[str, Cost]:
    """The cost of every program of `PROGRAMS`, for prompts of the full length and answers of the full limit."""
    graphdef, state = JANUS_PRO.abstract(config, JANUS_PRO.parts_for({"draw"}))
    shapes, llm, steps = shapes_by_name(state), config.llm, config.vq.num_codes
    slots, branches = prompt_slots(drawing), CodeSampler().branches

    def weights(*starts: str) -> int:
        return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(starts))

    def counted(function, *arguments) -> tuple[float, float]:
        return products(jax.make_jaxpr(
            lambda state, *inputs: function(nnx.merge(graphdef, state), *inputs))(state, *arguments))

    def codes(model, ids: jax.Array, real: jax.Array) -> jax.Array:
        noise = gumbel_noise(random_keys([0], Use.NOISE), config.vq.codebook_size)
        return sample_codes(model, Prompts(ids, real), noise, CodeSampler(), _COMPUTE).codes

    ids = jax.ShapeDtypeStruct((1, slots), jnp.int32)
    drawn = counted(codes, ids, jax.ShapeDtypeStruct((1, slots), bool))
    pixels = counted(lambda model, codes: model.vq.decode(codes), jax.ShapeDtypeStruct((1, steps), jnp.int32))
    return {
        "codes": Cost(*drawn, steps * WEIGHT_BYTES * weights(*_READ_EACH_STEP), steps,
                      2 * llm.num_layers * branches * (slots + steps - 1) * llm.hidden_size),
        "pixels": Cost(*pixels, 4 * weights("vq.decoder."), 1),
        "decode": decode_cost(llm, slots, drawing.max_tokens),
    }


def program_arguments(programs: Programs, name: str, drawing: Drawing) -> tuple:
    """The arguments of one of `PROGRAMS` besides the model's state."""
    mesh, rows, slots = programs.mesh, drawing.rows, prompt_slots(drawing)

    def array(*sizes: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return struct(mesh, (rows, *sizes), dtype, ROWS)

    keys = array(dtype=jax.eval_shape(lambda: random_keys([0], Use.NOISE)).dtype)
    if name == "codes":
        return Prompts(array(slots), array(slots, dtype=bool)), keys, CodeSampler()
    if name == "pixels":
        return (array(programs.config.vq.num_codes),)
    return (abstract_context(programs, rows, slots), _TOKEN, keys, array(dtype=bool),
            TextSampler(drawing.max_tokens))
