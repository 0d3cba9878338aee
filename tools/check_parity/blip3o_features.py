"""Recomputes `golden_eva`, `golden_train` and `golden_sampling`: features of pictures, and how they are predicted."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from srum_jax.families.blip3o.flow_sampling import draw_features, guided, velocities
from srum_jax.models.blip3o.flow import (
    GUIDANCE,
    TIME_SCALE,
    drawn_sigma,
    sampling_sigmas,
    sampling_timesteps,
    train_sigmas,
)
from srum_jax.models.blip3o.patches import eva_pixels
from tools.check_parity.blip3o_case import COMPUTE, TABLE, TIMES, Case, compared
from tools.check_parity.result import GroupResult, Unchecked
from tools.check_parity.tensors import Tensors, channels_first, channels_last


@dataclasses.dataclass(frozen=True)
class TrainingInputs:
    """What `golden_train` gives."""

    ids: jax.Array  # int32 [B, S]
    real: jax.Array  # bool [B, S]
    first_query: jax.Array  # int32 [B]
    latents: jax.Array  # [B, H, W, C]
    noise: jax.Array
    sigma: jax.Array  # [B]

    @property
    def noisy(self) -> jax.Array:
        """The network's input, [B, H, W, C]."""
        share = self.sigma[:, None, None, None]
        return (1 - share) * self.latents + share * self.noise


def training_inputs(case: Case) -> TrainingInputs:
    """Of a case."""
    tensors, tokens = case.tensors["train"], case.config.special_tokens
    ids = jnp.asarray(tensors["input_ids"].astype(np.int32))
    return TrainingInputs(
        ids, ids != tokens.pad, jnp.argmax(ids == tokens.image_query, axis=1).astype(jnp.int32),
        channels_last(tensors["latents"]), channels_last(tensors["noise"]), drawn_sigma(jnp.asarray(tensors["u"])),
    )


def check_eva(case: Case) -> list[GroupResult | Unchecked]:
    """The tower; of large tensors the case holds the first pictures, and of small cases only their sources."""
    tensors, taps = case.tensors["eva"], _Taps()
    if "images" in tensors:
        images = channels_last(tensors["images"])
    else:
        source = Image.fromarray(case.tensors["preprocess"]["raw_0"])
        images = jnp.asarray(eva_pixels(source, case.config.eva.image_size))[None]
    features = case.model.eva(images, COMPUTE, taps)
    found = {
        "patch_embed": taps["patch_embed"][0],
        "features": features,
        "pooled": channels_first(case.model.eva.pooled(features)),
        **{f"block_{number}": x for number, x in enumerate(taps["block"])},
    }
    given = frozenset({"images"})
    shown = {name: np.asarray(found[name])[: len(tensors[name])] for name in found.keys() & tensors}
    expected = {name: value if name in given else value[: len(images)] for name, value in tensors.items()}
    return compared("eva", expected, shown, given)


def check_train(case: Case) -> list[GroupResult | Unchecked]:
    """The training forward, without and with dropped conditions."""
    tensors, model, config = case.tensors["train"], case.model, case.config
    inputs = training_inputs(case)
    ids, sigma, noisy = inputs.ids, inputs.sigma, inputs.noisy
    taps = _Taps()
    condition = model.query_states(ids, inputs.real, inputs.first_query, COMPUTE, taps)
    states = [*taps["embed"], *taps["layer"]]
    states[-1] = np.asarray(model.llm.norm(jnp.asarray(states[-1])))
    target = inputs.noise - inputs.latents
    queries = np.asarray(ids == config.special_tokens.image_query)
    mask = np.asarray(inputs.real)
    found = {
        "attention_mask": mask.astype(np.uint8),
        "i_s_pos": inputs.first_query,
        "labels_after": np.where(queries, -100, tensors["labels_in"]),
        "query_hidden": condition,
        "sigmas": sigma,
        "timesteps": sigma * TIME_SCALE,
        "noisy_latents": channels_first(noisy),
        "target": channels_first(target),
        **{f"llm_hidden_{number}": x[mask] for number, x in enumerate(states)},
    }
    drops = {name.removesuffix("_mask"): 1 - tensors[name] for name in tensors if name.endswith("_mask")
             and name != "attention_mask"}
    for name, keep in {"nodrop": np.ones(len(ids), np.float32), **drops}.items():
        taps = _Taps()
        given = condition * jnp.asarray(keep)[:, None, None]
        velocity = model.dit(noisy, sigma * TIME_SCALE, given, COMPUTE, taps)
        found |= {f"{name}.condition": given, f"{name}.pred": channels_first(velocity),
                  f"{name}.mse_loss": jnp.mean(jnp.square(velocity - target))}
        inner = {f"{name}.dit_layer_{number}": x for number, x in enumerate(taps["layer"])}
        inner |= {f"{name}.dit_{tap}": values[0] for tap, values in taps.items() if tap != "layer"}
        found |= {key: value for key, value in inner.items() if name == "nodrop" or key in tensors}
    given = frozenset({"input_ids", "labels_in", "latents", "noise", "u", *(f"{name}_mask" for name in drops)})
    expected = {key: value[mask] if key.startswith("llm_hidden_") else value for key, value in tensors.items()}
    return compared("train", expected, found, given, timesteps=TIMES, sigmas=TABLE)


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
        drawn = draw_features(model.dit, noise, condition, COMPUTE, num_steps=steps)
        found |= {
            f"{name}.sigmas": sigmas, f"{name}.timesteps": sigmas[:-1] * np.float32(TIME_SCALE),
            f"{name}.model_timesteps": sampling_timesteps(sigmas), f"{name}.latents_final": channels_first(drawn),
            f"{name}.tokens": drawn.reshape(len(drawn), -1, config.dit.channels),
        }
        tolerances |= {f"{name}.sigmas": TABLE, f"{name}.timesteps": TIMES}
        if f"{name}.latents_0" in tensors:
            found |= _steps(case, name, noise, condition, sigmas)
    return compared("sampling", tensors, found, frozenset({"prompt_ids", "initial_noise"}), **tolerances)


def _steps(case: Case, name: str, x: jax.Array, condition: jax.Array, sigmas: np.ndarray) -> Tensors:
    found = {}
    for i, timestep in enumerate(sampling_timesteps(sigmas)):
        without, conditioned = velocities(case.model.dit, x, timestep, condition, COMPUTE)
        velocity = guided(without, conditioned, GUIDANCE)
        x = x + (sigmas[i + 1] - sigmas[i]) * velocity
        found |= {f"{name}.pred_uncond_{i}": channels_first(without), f"{name}.latents_{i}": channels_first(x),
                  f"{name}.pred_cond_{i}": channels_first(conditioned),
                  f"{name}.pred_guided_{i}": channels_first(velocity)}
    return found


class _Taps(dict):
    """Keeps what it is called with, by name."""

    def __call__(self, name: str, value: jax.Array) -> None:
        self.setdefault(name, []).append(np.asarray(value))
