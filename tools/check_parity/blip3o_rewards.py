"""Recomputes `golden_srum` and `golden_srum_grads`: reward maps, the reward-weighted loss, and its gradients."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from srum_jax.models.blip3o.flow import TIME_SCALE
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives import reward_weighted
from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.token_scores import Columns, TokenMasks, TokenScores
from srum_jax.rewards.boxes import official_boxes
from srum_jax.rewards.reward_map import RewardMapConfig, pixel_map, reward_map
from tools.check_parity.blip3o_case import GRADIENT, TABLE, Case, compared
from tools.check_parity.blip3o_features import training_inputs
from tools.check_parity.published_names import published
from tools.check_parity.result import GroupResult, Unchecked, compare_to_peak
from tools.check_parity.tensors import channels_last

# Boxes of these cases have exclusive ends.
_MAPS = {"code": RewardMapConfig.official(edge="half_open"), "signed": RewardMapConfig.paper(overlap="last")}
_PLAIN = RewardWeighted(reward_coefficient=0.0, reference_coefficient=1.0)
_GRADIENT = re.compile(r"(?:(\w+)\.(mse|(?:code|signed)\.(?:good_)?lambda[\d.]+)|full)\.(model\..+)")
_COMPUTE = ComputeConfig(remat="none")


def check_losses(case: Case) -> list[GroupResult | Unchecked]:
    """Maps on pixels and on the grid of features, and every combination of drop, map, reference and coefficient."""
    tensors, grid = case.tensors["srum"], (case.config.dit.grid,) * 2
    boxes = json.loads((case.directory / "reward_boxes.json").read_text())
    size, found = boxes["map_size"], {}
    for name, config in _MAPS.items():
        maps, weights = [], []
        for sample in boxes["samples"]:
            regions, score = official_boxes(sample["regions"]), sample["global_score"] or 0.0
            maps.append(pixel_map(regions, width=size, height=size, config=config) * np.float32((score + 1) / 2))
            weights.append(reward_map(regions, score, width=size, height=size, grid=grid, config=config).weight)
        found |= {f"reward_map_{name}": np.stack(maps), f"reward_latent_{name}": np.stack(weights)}
    for drop in ("nodrop", "drop1"):
        velocity = _velocity(case, nnx.state(case.model), drop)

        def loss(settings: RewardWeighted, kind: str | None, good: bool, velocity: jax.Array = velocity) -> jax.Array:
            return _loss(case, velocity, settings, kind, good)

        found |= {f"{drop}.loss_ref": loss(_PLAIN, None, False), f"{drop}.loss_ref_good": loss(_PLAIN, None, True)}
        for kind in _MAPS:
            found[f"{drop}.{kind}.loss_reward"] = loss(RewardWeighted(reference_coefficient=0.0), kind, False)
            found[f"{drop}.{kind}.total_good_lambda0.5"] = loss(RewardWeighted(), kind, True)
            found |= {f"{drop}.{kind}.total_lambda{share}": loss(
                RewardWeighted(reference_coefficient=share), kind, False) for share in (0.0, 0.5, 1.0)}
    tables = {name: TABLE for name in found if name.startswith("reward_")}
    return compared("srum", tensors, found, frozenset({"latents_good"}), **tables)


def check_gradients(case: Case) -> list[GroupResult | Unchecked]:
    """Gradients of what is trained, one group for each loss."""
    tensors = case.tensors["srum_grads"]
    groups: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    names: dict[tuple[str, str], dict[str, str]] = {}
    for key, value in tensors.items():
        if (match := _GRADIENT.fullmatch(key)) is None:
            raise ValueError(f"tensor '{key}': expected DROP.LOSS.PARAMETER or full.PARAMETER")
        drop, of, parameter = match.groups()
        group = (drop or "nodrop", of or "signed.lambda0.5")
        groups.setdefault(group, {})[key], names.setdefault(group, {})[key] = value, parameter
    graphdef, trained, rest = nnx.split(case.model, lambda path, _: path[0] in ("dit", "queries"), ...)
    results: list[GroupResult | Unchecked] = []
    for (drop, of), recorded in sorted(groups.items()):
        kind, _, share = of.partition(".")
        towards_good = share.startswith("good")
        settings = _PLAIN if of == "mse" else RewardWeighted(reference_coefficient=float(share.split("lambda")[1]))

        def loss(trained: nnx.State, drop=drop, settings=settings, kind=kind, good=towards_good):
            velocity = _velocity(case, nnx.merge_state(trained, rest), drop, graphdef)
            return _loss(case, velocity, settings, None if kind == "mse" else kind, good)

        gradients = published(jax.jit(jax.grad(loss))(trained), case.plan)
        for key, value in sorted(recorded.items()):
            pair = (key, value, gradients.get(names[drop, of][key]))
            results.append(compare_to_peak(f"srum_grads/{key}", pair, **GRADIENT))
    return results


def _velocity(case: Case, state: nnx.State, drop: str, graphdef: nnx.GraphDef | None = None) -> jax.Array:
    model = nnx.merge(graphdef or nnx.graphdef(case.model), state)
    inputs = training_inputs(case)
    condition = model.query_states(inputs.ids, inputs.real, inputs.first_query, _COMPUTE)
    if drop != "nodrop":
        condition = condition * (1 - jnp.asarray(case.tensors["train"][f"{drop}_mask"]))[:, None, None]
    return model.dit(inputs.noisy, inputs.sigma * TIME_SCALE, condition, _COMPUTE)


def _loss(case: Case, velocity: jax.Array, settings: RewardWeighted, kind: str | None, good: bool) -> jax.Array:
    inputs = training_inputs(case)

    def error(latents: jax.Array) -> jax.Array:  # [B, features]
        squares = jnp.square(velocity - (inputs.noise - latents))
        return jnp.mean(squares, axis=-1).reshape(len(squares), -1)

    scored = error(inputs.latents)
    reference = error(channels_last(case.tensors["srum"]["latents_good"])) if good else None
    no_text = jnp.zeros((len(scored), 0))
    scores = TokenScores(scored, reference, None, no_text)
    sample = jnp.zeros(scored.shape, jnp.int32)
    masks = TokenMasks(jnp.ones(scored.shape, bool), sample, no_text, sample[:, :0], {}, 1)
    weight = jnp.ones_like(scored) if kind is None else jnp.asarray(
        case.tensors["srum"][f"reward_latent_{kind}"]).reshape(scored.shape)
    columns = Columns({"alpha": jnp.ones_like(scored), "reward_map": weight}, {})
    return reward_weighted.share_of_loss(settings, scores, masks, columns, reward_weighted.totals(settings, masks))[0]
