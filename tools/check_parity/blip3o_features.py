"""Recomputes `golden_eva` and `golden_sampling`: features of pictures, and how they are drawn."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from srum_jax.families.blip3o.flow_sampling import draw_features, guided, velocities
from srum_jax.families.blip3o.sampler import FeatureSampler
from srum_jax.models.blip3o.flow import TIME_SCALE, sampling_sigmas, sampling_timesteps, train_sigmas
from srum_jax.models.blip3o.patches import eva_crop, normalised
from tools.check_parity.blip3o_case import TABLE, TIMES, compared
from tools.check_parity.model_case import COMPUTE, Case, Taps
from tools.check_parity.result import GroupResult, Unchecked
from tools.check_parity.tensors import Tensors, channels_first, channels_last


def check_eva(case: Case) -> list[GroupResult | Unchecked]:
    """The tower; of large tensors the case holds the first pictures, and of small cases only their sources."""
    tensors, taps = case.tensors["eva"], Taps()
    if "images" in tensors:
        images = channels_last(tensors["images"])
    else:
        source = Image.fromarray(case.tensors["preprocess"]["raw_0"])
        images = jnp.asarray(normalised(eva_crop(source, case.config.eva.image_size)))[None]
    features = case.model.eva(images, COMPUTE, taps)
    found = {
        "patch_embed": taps["patch_embed"][0],
        "features": features,
        "pooled": channels_first(case.model.eva.pooled(features)),
        **{f"block_{number}": x for number, x in enumerate(taps["block"])},
    }
    shown = {name: np.asarray(found[name])[: len(tensors[name])] for name in found.keys() & tensors}
    expected = {name: value if name == "images" else value[: len(images)] for name, value in tensors.items()}
    return compared("eva", expected, shown, {"images"})


def check_sampling(case: Case) -> list[GroupResult | Unchecked]:
    """Timetables, and pictures drawn with the case's noise in each number of steps that it holds."""
    tensors, model, config = case.tensors["sampling"], case.model, case.config
    prompt = tensors["prompt_ids"].astype(np.int32)
    opened = np.concatenate([prompt, np.full((len(prompt), 1), config.special_tokens.image_start, np.int32)], axis=1)
    ids = jnp.asarray(np.pad(opened, ((0, 0), (0, config.num_queries)),
                             constant_values=config.special_tokens.image_query))
    condition = model.query_states(
        ids, jnp.ones(ids.shape, bool), jnp.full(len(prompt), opened.shape[1], jnp.int32), COMPUTE)
    noise = channels_last(tensors["initial_noise"])
    found: Tensors = {
        "prompt_ids_with_img": opened, "condition": condition, "train_sigmas": train_sigmas(),
        "train_timesteps": train_sigmas() * np.float32(TIME_SCALE),
    }
    tolerances = {"train_sigmas": TABLE, "train_timesteps": TIMES}
    for name in sorted({match.group(1) for key in tensors if (match := re.match(r"(s\d+)\.", key))}):
        steps = int(name[1:])
        sigmas = sampling_sigmas(steps)
        drawn = draw_features(model.dit, noise, condition, FeatureSampler(steps), COMPUTE)
        found |= {
            f"{name}.sigmas": sigmas, f"{name}.timesteps": sigmas[:-1] * np.float32(TIME_SCALE),
            f"{name}.model_timesteps": sampling_timesteps(sigmas), f"{name}.latents_final": channels_first(drawn),
            f"{name}.tokens": drawn.reshape(len(drawn), -1, config.dit.channels),
        }
        tolerances |= {f"{name}.sigmas": TABLE, f"{name}.timesteps": TIMES}
        if f"{name}.latents_0" in tensors:
            found |= _steps(case, name, noise, condition, sigmas)
    return compared("sampling", tensors, found, {"prompt_ids", "initial_noise"}, **tolerances)


def _steps(case: Case, name: str, x: jax.Array, condition: jax.Array, sigmas: np.ndarray) -> Tensors:
    found = {}
    for i, timestep in enumerate(sampling_timesteps(sigmas)):
        without, conditioned = velocities(case.model.dit, x, timestep, condition, COMPUTE)
        velocity = guided(without, conditioned, FeatureSampler().guidance)
        x = x + (sigmas[i + 1] - sigmas[i]) * velocity
        found |= {f"{name}.pred_uncond_{i}": channels_first(without), f"{name}.latents_{i}": channels_first(x),
                  f"{name}.pred_cond_{i}": channels_first(conditioned),
                  f"{name}.pred_guided_{i}": channels_first(velocity)}
    return found
