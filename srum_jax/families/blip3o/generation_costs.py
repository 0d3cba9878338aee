"""FLOPs and bytes of generation, counted over the programs as JAX traces them for one row.

Counted are matrix products and convolutions (2 FLOPs per multiply-add), as often as the loops around them turn, and the
bytes of what goes in and comes out of them but for weights; padding is in it, norms and softmax are not. Weights are
read once in every pass.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.families.blip3o.flow_sampling import draw_features
from srum_jax.families.blip3o.generation_programs import TEMPLATE_TOKENS, pixel_sampler
from srum_jax.families.blip3o.pixel_sampling import decoded_pixels, predicted_noise
from srum_jax.families.blip3o.sampler import FeatureSampler
from srum_jax.families.costs import Cost, Drawing
from srum_jax.families.counted_costs import WEIGHT_BYTES, decode_cost, products
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import shapes_by_name

_COMPUTE = ComputeConfig(dtype="bfloat16", attention="dense", remat="none")


def generation_costs(config: Blip3oConfig, drawing: Drawing) -> dict[str, Cost]:
    """The cost of every program of `PROGRAMS`, for prompts of the full length and answers of the full limit."""
    graphdef, state = BLIP3O.abstract(config, BLIP3O.parts_for({"draw"}))
    shapes = shapes_by_name(state)
    llm, dit, features, pixels = config.llm, config.dit, FeatureSampler(), pixel_sampler(drawing)
    text = drawing.prompt_tokens + TEMPLATE_TOKENS
    tokens = text + 1 + config.num_queries

    def traced(part: str, function, *arguments, passes: float = 1.0, summed: float = 0.0, times: float = 1.0) -> Cost:
        weights = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(part))
        jaxpr = jax.make_jaxpr(lambda state, *inputs: function(nnx.merge(graphdef, state), *inputs))(state, *arguments)
        flops, num_bytes = products(jaxpr)
        return Cost(flops, num_bytes, passes * WEIGHT_BYTES * weights, passes, summed) * times

    def struct(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    picture = struct(1, dit.grid, dit.grid, dit.channels)
    condition = struct(1, config.num_queries, llm.hidden_size, dtype=jnp.bfloat16)
    vae = config.pixels.vae
    latent = struct(1, drawing.height // vae.stride, drawing.width // vae.stride, vae.latent_channels)
    branches = 2 if pixels.guidance > 1 else 1
    seen = struct(branches, dit.grid**2, dit.channels)
    both = struct(branches, *latent.shape[1:])
    return {
        "prefill": traced("llm.layers.", lambda model, ids: model.query_states(
            ids, jnp.ones(ids.shape, bool), jnp.full(1, text + 1), _COMPUTE), struct(1, tokens, dtype=jnp.int32),
            summed=2 * llm.num_layers * tokens * llm.hidden_size),
        "features": traced("dit.", lambda model, noise, condition: draw_features(
            model.dit, noise, condition, features, _COMPUTE), picture, condition, passes=features.num_steps,
            summed=2 * features.num_steps * 2 * dit.num_layers * dit.grid**2 * dit.width),
        "latents": traced("decoder.unet.", lambda model, latent, condition: predicted_noise(
            model.decoder, latent, jnp.ones(()), jnp.ones(()), condition, _COMPUTE), both, seen,
            times=pixels.num_steps),
        "pixels": traced("decoder.vae.", lambda model, latent: decoded_pixels(
            model.decoder.vae, latent, _COMPUTE), latent),
        "decode": decode_cost(llm, text, drawing.max_tokens),
    }
