"""Recomputes `golden_train` by the forward pass that training runs; reward-weighted losses take the same inputs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.data.example import stack_rows
from srum_jax.families.blip3o.batch import Blip3oBatch
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.forward import Blip3oForward
from srum_jax.families.blip3o.rows import Blip3oPacker
from srum_jax.models.blip3o.model import Blip3o
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.objectives.columns import NO_COLUMNS
from srum_jax.objectives.token_scores import TokenScores
from tools.check_parity.blip3o_case import TABLE, TIMES, compared
from tools.check_parity.model_case import COMPUTE, Case, Taps
from tools.check_parity.result import GroupResult, Unchecked
from tools.check_parity.tensors import Tensors, channels_first, channels_last


@dataclasses.dataclass(frozen=True)
class RecordedForward(Blip3oForward):
    """The forward pass with the noise of a case, and with features of its own that the velocity is compared with."""

    noise: jax.Array  # [B, G G, C]
    reference: jax.Array | None

    def draws(self, key: jax.Array, batch: Blip3oBatch) -> jax.Array:
        """The recorded noise."""
        return self.noise

    def scores(self, model: Blip3o, batch: Blip3oBatch, draws: jax.Array, *, tap: Tap = no_tap) -> TokenScores:
        """Of the features that the batch brings."""
        features = batch.features.reshape(draws.shape)
        return self.scores_of_features(model, batch, draws, features, self.reference, tap=tap)


def recorded_forward(case: Case, compute: ComputeConfig, *, good: bool = False) -> RecordedForward:
    """Of a case; `good` asks for its other features as the reference."""
    reference = _tokens(case, case.tensors["srum"]["latents_good"]) if good else None
    return RecordedForward(case.config, compute, _tokens(case, case.tensors["train"]["noise"]), reference)


def training_batch(case: Case, drop: str, columns: Tensors | None = None) -> Blip3oBatch:
    """The case's samples, one a row, with their features.

    Args:
      case: with `golden_train`.
      drop: "nodrop", or the name of a recorded mask of conditions that are left out.
      columns: beside the features, [B, G G] by name.
    """
    recorded, special = case.tensors["train"], case.config.special_tokens
    ids = recorded["input_ids"].astype(np.int32)
    rows = Blip3oRows(samples_per_row=1, text_capacity=ids.shape[1])
    empty = stack_rows([Blip3oPacker(rows, case.config, None, NO_COLUMNS).empty_row().finish()] * len(ids))
    kept = np.ones(len(ids)) if drop == "nodrop" else 1 - recorded[f"{drop}_mask"]
    return dataclasses.replace(
        empty,
        sample=np.zeros((len(ids), 1), np.int32),
        ids=ids[:, None],
        first_query=np.argmax(ids == special.image_query, axis=1).astype(np.int32)[:, None],
        conditioned=kept[:, None] > 0,
        uniform=recorded["u"][:, None],
        features=channels_last(recorded["latents"])[:, None],
        image_columns={name: jnp.asarray(values) for name, values in (columns or {}).items()},
    )


def check_train(case: Case) -> list[GroupResult | Unchecked]:
    """The training forward, without and with dropped conditions."""
    recorded, config, grid = case.tensors["train"], case.config, case.config.dit.grid
    drops = sorted(name.removesuffix("_mask") for name in recorded if name.endswith("_mask")
                   and name != "attention_mask")
    mask = recorded["attention_mask"].astype(bool)
    found: Tensors = {}
    for name in ("nodrop", *drops):
        batch, forward, taps = training_batch(case, name), recorded_forward(case, COMPUTE), Taps()
        scores = forward.scores(case.model, batch, forward.noise, tap=taps)
        timestep, features = taps["timestep"][0], taps["features"][0]
        found |= {f"{name}.condition": taps["condition"][0], f"{name}.mse_loss": jnp.mean(scores.image_error),
                  f"{name}.pred": _grids(taps["velocity"][0], grid)}
        inner = {f"{name}.dit_layer_{number}": x for number, x in enumerate(taps["dit_layer"])}
        inner |= {f"{name}.{tap}": values[0] for tap, values in taps.items()
                  if tap.startswith("dit_") and tap != "dit_layer"}
        found |= {key: value for key, value in inner.items() if name == "nodrop" or key in recorded}
        if name != "nodrop":
            continue
        states = [*taps["embed"], *taps["layer"]]
        states[-1] = np.asarray(case.model.llm.norm(jnp.asarray(states[-1])))
        queries = recorded["input_ids"] == config.special_tokens.image_query
        found |= {
            "attention_mask": np.asarray(forward.masks(batch).streams["text"]).astype(np.uint8),
            "i_s_pos": batch.first_query[:, 0],
            "labels_after": np.where(queries, -100, recorded["labels_in"]),
            "query_hidden": taps["condition"][0],
            "sigmas": scores.time[:, 0],
            "timesteps": timestep,
            "noisy_latents": _grids(taps["noisy_features"][0], grid),
            "target": _grids(np.asarray(forward.noise) - features, grid),
            **{f"llm_hidden_{number}": x[mask] for number, x in enumerate(states)},
        }
    given = {"input_ids", "labels_in", "latents", "noise", "u", *(f"{name}_mask" for name in drops)}
    expected = {key: value[mask] if key.startswith("llm_hidden_") else value for key, value in recorded.items()}
    return compared("train", expected, found, given, timesteps=TIMES, sigmas=TABLE)


def _tokens(case: Case, channels_before: np.ndarray) -> jax.Array:
    """[B, C, G, G] to [B, G G, C]."""
    return channels_last(channels_before).reshape(len(channels_before), -1, case.config.dit.channels)


def _grids(x: np.ndarray, grid: int) -> np.ndarray:
    """[B, G G, C] to [B, C, G, G]."""
    return channels_first(x.reshape(len(x), grid, grid, -1))
