import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from srum_jax.inference.cached_decoder import read, text_continuation
from srum_jax.inference.context import empty_context
from srum_jax.models.blip3o.model import Blip3o
from srum_jax.models.blip3o.patches import arrange, flat_patches
from srum_jax.models.blip3o.positions import mrope_angles, understanding_positions
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.token_stream import causal_tokens
from tests.models.filled import filled
from tests.models.tiny_blip3o import tiny_config

COMPUTE = ComputeConfig()


@pytest.mark.parametrize("tied", [False, True])
def test_decoding_with_a_cache_equals_the_full_forward(tied):
    config = tiny_config(tie_word_embeddings=tied)
    model = filled(lambda: Blip3o(config, rngs=nnx.Rngs(0), parts={"vision"}))
    pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3), np.uint8)
    patches = flat_patches(Image.fromarray(pixels), config.vision)
    rows, columns = (length // config.vision.merge_size for length in patches[1])
    pad, pictures = config.special_tokens.image_pad, arrange([patches], config.vision)
    prompt = [1, *[pad] * (rows * columns), 2, 3]
    ids = np.asarray([prompt, [0] * (len(prompt) - 2) + [7, 8]])  # padded on the left
    real = np.asarray([[True] * len(prompt), [False] * (len(prompt) - 2) + [True] * 2])
    fed = np.asarray([[11, 12, 13], [21, 22, 23]])

    whole, there = np.concatenate([ids, fed], axis=1), np.concatenate([real, np.ones_like(fed, bool)], axis=1)
    position, _ = understanding_positions(whole, there, [(rows, columns)], pad)
    embed = nnx.jit(lambda model, ids, pictures: model.embed_conversation(ids, pictures, COMPUTE))
    forward = nnx.jit(lambda model, *inputs: model.llm.logits(model.hidden(*inputs, COMPUTE)))
    expected = forward(model, embed(model, whole, pictures), there, position)

    position, following = understanding_positions(ids, real, [(rows, columns)], pad)
    context = empty_context(config.llm, 2, ids.shape[1] + fed.shape[1], jnp.float32)

    @nnx.jit
    def after_prompt(model, embedded, real, position, following, context):
        angles = mrope_angles(position, model.config.llm)
        _, written = read(model.llm, embedded, causal_tokens(real), angles, context, COMPUTE)
        return context.append(written, real, following)

    context = after_prompt(model, embed(model, ids, pictures), real, position, following, context)
    step = jax.jit(text_continuation(model.llm, model.angles, COMPUTE))
    for number in range(fed.shape[1]):
        logits, context = step(context, jnp.asarray(fed[:, number]), jnp.ones(2, jnp.int32))
        np.testing.assert_allclose(logits, expected[:, ids.shape[1] + number], rtol=1e-4, atol=1e-4)
