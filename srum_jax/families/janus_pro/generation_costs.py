"""The programs of generation over arrays that exist by shape and layout alone, and what they cost.

"codes" reads prompts and draws all codes, "pixels" decodes them; "decode" writes an answer. In a round of SUDER
"score_texts" says how likely a prompt is behind its picture, and "score_pictures" a picture behind its caption.

Counted are matrix products and convolutions as often as the loops around them turn; weights are read once in every
pass.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.families.abstract_programs import abstract_context, struct
from srum_jax.families.costs import Cost, Drawing
from srum_jax.families.counted_costs import WEIGHT_BYTES, decode_cost, products
from srum_jax.families.janus_pro.code_sampling import Prompts, gumbel_noise, sample_codes
from srum_jax.families.janus_pro.likelihood import answer_log_probs, code_log_probs
from srum_jax.families.janus_pro.programs import DECODE_CODES, DRAW_CODES, SCORE_CODES, SCORE_TEXT, WRITE_TEXT
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
PROGRAMS = {"codes": DRAW_CODES, "pixels": DECODE_CODES, "decode": WRITE_TEXT}
REWARD_PROGRAMS = {"score_texts": SCORE_TEXT, "score_pictures": SCORE_CODES}
_ASKED_TOKENS = 64  # around a picture: the system's text, roles, and a request as "Describe the image in detail."
_COMPUTE = ComputeConfig(dtype="bfloat16", attention="dense", remat="none")
_TOKEN = 0  # any: what a decoded text follows on
_READ_EACH_STEP = ("llm.layers.", "gen_head.", "gen_aligner.")


def prompt_slots(drawing: Drawing) -> int:
    """Slots of a prompt with its template, padding included."""
    return bucket(drawing.prompt_tokens + TEMPLATE_TOKENS)


def question_slots(config: JanusConfig) -> int:
    """Slots of a short question about a picture."""
    return bucket(config.vision.num_tokens + _ASKED_TOKENS)


def generation_costs(config: JanusConfig, drawing: Drawing) -> dict[str, Cost]:
    """The cost of every program of `PROGRAMS`, for prompts of the full length and answers of the full limit."""
    traced, llm, steps = _Traced(config, {"draw"}), config.llm, config.vq.num_codes
    slots, sampler = prompt_slots(drawing), drawing.sampler or CodeSampler()

    def codes(model, ids: jax.Array, real: jax.Array) -> jax.Array:
        noise = gumbel_noise(random_keys([0], Use.NOISE), config.vq.codebook_size)
        return sample_codes(model, Prompts(ids, real), noise, sampler, _COMPUTE).codes

    ids = jax.ShapeDtypeStruct((1, slots), jnp.int32)
    drawn = traced.products(codes, ids, jax.ShapeDtypeStruct((1, slots), bool))
    pixels = traced.products(lambda model, codes: model.vq.decode(codes), jax.ShapeDtypeStruct((1, steps), jnp.int32))
    return {
        "codes": Cost(*drawn, steps * WEIGHT_BYTES * traced.weights(*_READ_EACH_STEP), steps,
                      2 * llm.num_layers * sampler.branches * (slots + steps - 1) * llm.hidden_size),
        "pixels": Cost(*pixels, 4 * traced.weights("vq.decoder."), 1),
        "decode": decode_cost(llm, slots, drawing.max_tokens),
    }


def reward_costs(config: JanusConfig, drawing: Drawing) -> dict[str, Cost]:
    """See `Costs.reward_costs`; both likelihoods are exact. The request's words are left out."""
    traced, llm, codes, side = _Traced(config, {"draw", "read"}), config.llm, config.vq.num_codes, config.vq.image_size
    slots, said = prompt_slots(drawing), bucket(drawing.prompt_tokens)
    read = config.vision.num_tokens + said

    def of_prompt(model, ids, picture, places) -> jax.Array:
        return answer_log_probs(model, ids, jnp.ones(ids.shape, bool), picture, places, places, _COMPUTE)

    def of_picture(model, ids, picture) -> jax.Array:
        return code_log_probs(model, ids, jnp.ones(ids.shape, bool), model.vq.encode(picture), _COMPUTE)

    def array(*shape: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    view = array(1, 1, config.vision.image_size, config.vision.image_size, 3, dtype=jnp.float32)
    pictures = traced.products(of_prompt, array(1, read), view, array(1, said))
    captions = traced.products(of_picture, array(1, slots), array(1, side, side, 3, dtype=jnp.float32))
    summed = 2 * llm.num_layers * llm.hidden_size
    return {
        "pictures": Cost(*pictures, WEIGHT_BYTES * traced.weights("llm.", "vision.", "aligner."), 1, summed * read),
        "captions": Cost(*captions, WEIGHT_BYTES * traced.weights("llm.layers.", "gen_", "vq.encoder."), 1,
                         summed * (slots + codes - 1)),
    }


class _Traced:
    """A model without values, whose work is counted."""

    def __init__(self, config: JanusConfig, uses: set[str]):
        self._graphdef, self._state = JANUS_PRO.abstract(config, JANUS_PRO.parts_for(uses))

    def weights(self, *starts: str) -> int:
        """Values of all parameters whose names begin so."""
        return sum(math.prod(shape) for name, shape in shapes_by_name(self._state).items() if name.startswith(starts))

    def products(self, function, *arguments: jax.ShapeDtypeStruct) -> tuple[float, float]:
        """FLOPs, and bytes of activations, of a function of the model and these."""
        return products(jax.make_jaxpr(
            lambda state, *inputs: function(nnx.merge(self._graphdef, state), *inputs))(self._state, *arguments))


def program_arguments(programs: Programs, name: str, drawing: Drawing) -> tuple:
    """The arguments of one of `PROGRAMS` or `REWARD_PROGRAMS` besides the model's state."""
    config, mesh, rows, slots = programs.config, programs.mesh, drawing.rows, prompt_slots(drawing)

    def array(*sizes: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return struct(mesh, (rows, *sizes), dtype, ROWS)

    keys = array(dtype=jax.eval_shape(lambda: random_keys([0], Use.NOISE)).dtype)
    if name == "codes":
        return Prompts(array(slots), array(slots, dtype=bool)), keys, drawing.sampler or CodeSampler()
    if name == "pixels":
        return (array(config.vq.num_codes),)
    if name == "score_texts":
        said, side = bucket(drawing.prompt_tokens + 1), config.vision.image_size
        read, views = question_slots(config) + said, array(1, side, side, 3, dtype=jnp.uint8)
        return array(read), array(read, dtype=bool), views, array(said), array(said)
    if name == "score_pictures":
        told, side = bucket(max(drawing.max_tokens, drawing.prompt_tokens) + TEMPLATE_TOKENS), config.vq.image_size
        return Prompts(array(told), array(told, dtype=bool)), array(side, side, 3, dtype=jnp.uint8)
    return (abstract_context(programs, rows, slots), _TOKEN, keys, array(dtype=bool),
            TextSampler(drawing.max_tokens))
