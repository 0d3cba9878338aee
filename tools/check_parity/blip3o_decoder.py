"""Recomputes `golden_decoder`: latents drawn from features, and their pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.families.blip3o.pixel_sampling import decoded_pixels, draw_latents, predicted_noise
from srum_jax.families.blip3o.sampler import PixelSampler
from srum_jax.models.blip3o.pixel_schedule import pixel_times
from tools.check_parity.blip3o_case import TABLE, TIMES, compared
from tools.check_parity.model_case import COMPUTE, Case, Taps
from tools.check_parity.result import GroupResult, Unchecked, compare_floats
from tools.check_parity.tensors import Tensors, channels_first, channels_last

_LEVEL = 1.0  # of 255


def check_decoder(case: Case) -> list[GroupResult | Unchecked]:
    """One picture, drawn step by step and in one go."""
    tensors, decoder = case.tensors["decoder"], case.model.decoder
    features, negative = np.split(jnp.asarray(tensors["prompt_embeds"]), 2)
    noise, num_steps = channels_last(tensors["initial_noise"]), len(tensors["timesteps"])
    times, many = (pixel_times(decoder.config.schedule, count) for count in (num_steps, len(tensors["timesteps_50"])))
    drawn = draw_latents(decoder, noise, features, negative, PixelSampler(num_steps), COMPUTE)
    taps = Taps()
    pixels = decoded_pixels(decoder.vae, drawn, COMPUTE, taps)
    size = np.asarray(pixels.shape[1:3])
    found: Tensors = {
        "timesteps": times.timesteps, "sigmas": times.sigmas, "init_noise_sigma": times.first_scale,
        "timesteps_50": many.timesteps, "sigmas_50": many.sigmas,
        "text_embeds": jnp.mean(jnp.asarray(tensors["prompt_embeds"]), axis=1),
        "time_ids": np.tile(np.concatenate([size, np.zeros_like(size), size]), 2),
        "latents_final": channels_first(drawn), "image_float": pixels,
        **{f"vae_{name}": channels_first(values[0]) for name, values in taps.items() if name != "up"},
        **{f"vae_up_{number}": channels_first(x) for number, x in enumerate(taps["up"])},
        **_steps(case, noise * times.first_scale),
    }
    tolerances = {"timesteps": TIMES, "timesteps_50": TIMES, "sigmas": TABLE, "sigmas_50": TABLE}
    expected = {name: value for name, value in tensors.items() if name != "image_uint8"}
    results = compared("decoder", expected, found, {"prompt_embeds", "initial_noise"}, **tolerances)
    image = np.round(255 * np.asarray(pixels[0]))
    pair = ("image_uint8", tensors.get("image_uint8"), image)
    return [*results, compare_floats("decoder/image_uint8", [pair], _LEVEL)]


def _steps(case: Case, latent: jax.Array) -> Tensors:
    """What goes into the U-Net and comes out in each step, and the insides of the first."""
    tensors, decoder = case.tensors["decoder"], case.model.decoder
    times = pixel_times(decoder.config.schedule, len(tensors["timesteps"]))
    found: Tensors = {}
    taps = Taps()
    for i, timestep in enumerate(times.timesteps):
        both = jnp.concatenate([latent, latent])
        error = predicted_noise(
            decoder, both, times.sigmas[i], timestep, jnp.asarray(tensors["prompt_embeds"]), COMPUTE,
            None if i else taps,
        )
        found[f"unet_in_{i}"] = channels_first(both / np.sqrt(times.sigmas[i] ** 2 + 1))
        found[f"unet_out_{i}"] = channels_first(error)
        with_features, without = jnp.split(error, 2)
        guided = without + PixelSampler().guidance * (with_features - without)
        latent = latent + (times.sigmas[i + 1] - times.sigmas[i]) * guided
        if i == 0:
            found["one_step_latents"] = channels_first(latent)
    for name in ("time_embedding", "add_embedding"):
        found[f"step0.{name}"] = taps[name][0]
    found |= {"step0.conv_in": channels_first(taps["conv_in"][0]), "step0.mid_block": channels_first(taps["mid"][0])}
    return found | {f"step0.{way}_{number}": channels_first(x)
                    for way in ("down", "up") for number, x in enumerate(taps[way])}
