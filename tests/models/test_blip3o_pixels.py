"""BLIP3o's pixel decoder: a recorded picture, and what holds of a tiny model of random weights."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.families.blip3o.pixel_sampling import decoded_pixels, draw_latents
from srum_jax.families.blip3o.sampler import PixelSampler
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.blip3o.pixel_config import (
    PixelDecoderConfig,
    PixelSchedule,
    PixelVaeConfig,
    UNetConfig,
    read_pixel_decoder,
)
from srum_jax.models.blip3o.pixel_decoder import PixelDecoder
from srum_jax.models.blip3o.pixel_schedule import pixel_times
from srum_jax.models.blip3o.pixel_weights import UNET_PREFIX, VAE_PREFIX
from srum_jax.models.blip3o.unet import UNet
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import dotted, named_shardings
from srum_jax.weights.table import SourceTensor, make_plan, published_tensors
from tests.golden import golden_json, golden_tensors
from tests.models.filled import filled

COMPUTE = ComputeConfig()
TINY = PixelDecoderConfig(
    unet=UNetConfig(in_channels=4, out_channels=4, widths=(4, 8), layers_per_block=1, transformer_depth=(0, 2),
                    num_heads=(1, 2), condition_width=6, size_features=2, norm_groups=2, norm_eps=1e-5, sample_size=4),
    vae=PixelVaeConfig(latent_channels=4, out_channels=3, widths=(4, 4), layers_per_block=1, norm_groups=2,
                       scaling_factor=0.13025),
    schedule=PixelSchedule(),
)


@pytest.fixture(scope="module")
def decoder() -> PixelDecoder:
    return filled(lambda: PixelDecoder(TINY, rngs=nnx.Rngs(0)), 0.2)


def recorded_decoder() -> PixelDecoder:
    folder, weights = "blip3o/pixel_decoder/diffusion-decoder", "diffusion_pytorch_model.bf16.safetensors"
    files = ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
    config = read_pixel_decoder(*(golden_json(f"{folder}/{file}") for file in files), 56, folder)
    tensors = {prefix + name: values for prefix, part in ((UNET_PREFIX, "unet"), (VAE_PREFIX, "vae"))
               for name, values in golden_tensors(f"{folder}/{part}/{weights}").items()}
    graph, shapes = nnx.split(nnx.eval_shape(lambda: PixelDecoder(config, rngs=nnx.Rngs(0))))
    flat = {f"decoder.{dotted(path)}": (path, variable) for path, variable in nnx.to_flat_state(shapes)}
    sources = {name: SourceTensor(values.dtype, values.shape, folder) for name, values in tensors.items()}
    plan = make_plan(BLIP3O.table, sources, {name: x.get_value().shape for name, (_, x) in flat.items()}, folder)

    def filled(name):
        values = [piece.to_target(tensors[piece.source]) for piece in plan.pieces[name]]
        return jnp.asarray(values[0] if plan.pieces[name][0].layer is None else np.stack(values))

    return nnx.merge(graph, nnx.from_flat_state(
        [(path, variable.replace(filled(name))) for name, (path, variable) in flat.items()]))


@pytest.mark.slow
def test_a_recorded_picture_is_drawn_again():
    recorded, decoder = golden_tensors("blip3o/pixel_decoder/golden_decoder.safetensors"), recorded_decoder()

    @nnx.jit
    def drawn(decoder, noise, embeds):
        latent = draw_latents(decoder, noise, embeds[:1], embeds[1:], PixelSampler(num_steps=4), COMPUTE)
        return latent, decoded_pixels(decoder.vae, latent, COMPUTE)

    with jax.default_matmul_precision("highest"):
        latent, pixels = drawn(decoder, np.moveaxis(recorded["initial_noise"], 1, -1), recorded["prompt_embeds"])
    for found, expected in ((jnp.moveaxis(latent, -1, 1), recorded["latents_final"]),
                            (pixels, recorded["image_float"])):
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5 * np.max(np.abs(expected)) + 1e-6)
    np.testing.assert_allclose(np.round(255 * pixels[0]), recorded["image_uint8"], rtol=0, atol=1)


@functools.partial(nnx.jit, static_argnames="guidance")
def latents(decoder, noise, features, negative, guidance):
    return draw_latents(decoder, noise, features, negative, PixelSampler(2, guidance), COMPUTE)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def shapes_of(module):
    return {".".join(map(str, path)): variable.get_value().shape
            for path, variable in nnx.to_flat_state(nnx.state(module))}


@pytest.mark.slow
def test_the_u_net_has_as_many_parameters_as_the_published_one_and_large_ones_are_split():
    published = UNetConfig(
        in_channels=4, out_channels=4, widths=(320, 640, 1280), layers_per_block=2, transformer_depth=(0, 2, 10),
        num_heads=(5, 10, 20), condition_width=1792, size_features=256, norm_groups=32, norm_eps=1e-5, sample_size=128)
    state = nnx.state(nnx.eval_shape(lambda: UNet(published, rngs=nnx.Rngs(0))))
    shapes = {dotted(path): variable.get_value().shape for path, variable in nnx.to_flat_state(state)}
    assert sum(map(math.prod, shapes.values())) == 2_525_520_644
    mesh = jax.sharding.AbstractMesh((2, 16, 1, 2), ("data", "fsdp", "seq", "tensor"))
    split = {dotted(path): variable.get_value().shard_shape(shapes[dotted(path)])
             for path, variable in nnx.to_flat_state(named_shardings(state, mesh, BLIP3O.rules))}
    assert split["mid.transformer.0.blocks.fc1.kernel"] == (10, 1280 // 16, 8 * 1280 // 2)
    assert split["mid.transformer.0.blocks.cross_key.kernel"] == (10, 1792 // 16, 1280 // 2)


def test_every_parameter_has_one_published_tensor_per_layer(decoder):
    shapes = {f"decoder.{name}": shape for name, shape in shapes_of(decoder).items()}
    assert all(len(BLIP3O.table.rules_for(name)) == 1 for name in shapes)
    published = published_tensors(BLIP3O.table, shapes)
    assert sum(map(math.prod, published.values())) == sum(map(math.prod, shapes.values()))
    unet, vae = "diffusion-decoder.unet.", "diffusion-decoder.vae.decoder."
    for name, shape in (
        (f"{unet}down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k.weight", (8, 6)),
        (f"{unet}down_blocks.0.downsamplers.0.conv.weight", (4, 4, 3, 3)),
        (f"{unet}up_blocks.0.resnets.1.conv_shortcut.weight", (8, 12, 1, 1)),  # joined with a map of the finer level
        (f"{unet}add_embedding.linear_1.weight", (16, 18)),
        (f"{vae}mid_block.attentions.0.to_out.0.weight", (4, 4)),
        (f"{vae}up_blocks.0.upsamplers.0.conv.weight", (4, 4, 3, 3)),
    ):
        assert published[name] == shape


def test_times_are_those_of_the_published_scheduler():
    times = pixel_times(PixelSchedule(), 50)
    assert times.timesteps[:2].tolist() == [981, 961] and times.timesteps[-1] == 1
    assert times.sigmas[0] == pytest.approx(13.1204, abs=1e-4) and times.sigmas[-1] == 0
    assert times.first_scale == pytest.approx(13.1585, abs=1e-4)


@pytest.mark.parametrize("num_steps", [0, 1000, 1001])
def test_steps_outside_of_training_are_refused(num_steps):
    with pytest.raises(ValueError, match=f"found {num_steps} "):
        pixel_times(PixelSchedule(), num_steps)


@pytest.mark.slow
def test_without_guidance_the_negative_is_not_looked_at_and_with_it_is(decoder):
    noise, features, one, other = normal(0, 2, 4, 4, 4), normal(1, 2, 3, 6), normal(2, 2, 3, 6), normal(3, 2, 3, 6)

    def drawn(negative, guidance):
        return latents(decoder, noise, features, negative, guidance)

    np.testing.assert_array_equal(drawn(one, 1.0), drawn(other, 1.0))
    assert np.max(np.abs(drawn(one, 3.0) - drawn(other, 3.0))) > 1e-4
    np.testing.assert_allclose(drawn(features, 3.0), drawn(one, 1.0), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_picture_is_drawn_alike_alone_and_beside_another(decoder):
    noise, features, negative = normal(0, 2, 4, 4, 4), normal(1, 2, 3, 6), normal(2, 1, 3, 6)
    both = latents(decoder, noise, features, jnp.repeat(negative, 2, axis=0), 3.0)
    alone = latents(decoder, noise[1:], features[1:], negative, 3.0)
    np.testing.assert_allclose(both[1:], alone, rtol=1e-4, atol=1e-4)


def test_pixels_lie_between_0_and_1_and_have_the_autoencoders_stride(decoder):
    pixels = nnx.jit(lambda vae, latent: decoded_pixels(vae, latent, COMPUTE))(decoder.vae, normal(0, 1, 4, 2, 4))
    assert pixels.shape == (1, 8, 4, 3) and pixels.dtype == jnp.float32
    assert jnp.min(pixels) >= 0 and jnp.max(pixels) <= 1
