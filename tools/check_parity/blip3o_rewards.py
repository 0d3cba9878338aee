"""Recomputes `golden_srum` and `golden_srum_grads`: reward maps, the reward-weighted loss, and its gradients."""

import dataclasses
import functools
import json
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from srum_jax.families.blip3o.batch import Blip3oBatch
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.loss import objective_loss, objective_totals
from srum_jax.objectives.token_scores import TokenScores
from srum_jax.rewards.boxes import official_boxes
from srum_jax.rewards.reward_map import RewardMapConfig, pixel_map, reward_map
from srum_jax.training.state import TrainState, split_trainable
from srum_jax.training.step import columns_of, make_step
from tools.check_parity.blip3o_case import GRADIENT, TABLE, compared
from tools.check_parity.blip3o_training import recorded_forward, training_batch
from tools.check_parity.model_case import Case
from tools.check_parity.published_names import published
from tools.check_parity.result import GroupResult, Unchecked, compare_recorded

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
    forward = recorded_forward(case, _COMPUTE, good=True)
    scored = jax.jit(lambda batch: forward.scores(case.model, batch, forward.noise))
    for drop in ("nodrop", "drop1"):
        scores = scored(training_batch(case, drop))

        def loss(settings: RewardWeighted, kind: str | None = None, *, good: bool = False, drop: str = drop,
                 scores: TokenScores = scores) -> jax.Array:
            batch = _batch(case, drop, kind)
            masks, columns = forward.masks(batch), columns_of(batch)
            meant = scores if good else dataclasses.replace(scores, reference_error=None)
            return objective_loss(settings, meant, masks, columns, objective_totals(settings, masks, columns))[0]

        found |= {f"{drop}.loss_ref": loss(_PLAIN), f"{drop}.loss_ref_good": loss(_PLAIN, good=True)}
        for kind in _MAPS:
            found[f"{drop}.{kind}.loss_reward"] = loss(RewardWeighted(reference_coefficient=0.0), kind)
            found[f"{drop}.{kind}.total_good_lambda0.5"] = loss(RewardWeighted(), kind, good=True)
            found |= {f"{drop}.{kind}.total_lambda{share}": loss(
                RewardWeighted(reference_coefficient=share), kind) for share in (0.0, 0.5, 1.0)}
    tables = {name: TABLE for name in found if name.startswith("reward_")}
    return compared("srum", tensors, found, {"latents_good"}, **tables)


def check_gradients(case: Case) -> list[GroupResult | Unchecked]:
    """Gradients of what is trained."""
    tensors, found = case.tensors["srum_grads"], {}
    gradient = functools.cache(functools.partial(_gradient, case))

    @functools.cache
    def gradients(drop: str, of: str) -> dict[str, np.ndarray]:
        kind, _, share = of.partition(".")
        settings = _PLAIN if of == "mse" else RewardWeighted(reference_coefficient=float(share.split("lambda")[1]))
        return gradient(settings, share.startswith("good"))(_batch(case, drop, None if of == "mse" else kind))

    for key in tensors:
        if (match := _GRADIENT.fullmatch(key)) is None:
            raise ValueError(f"tensor '{key}': expected DROP.LOSS.PARAMETER or full.PARAMETER")
        drop, of, parameter = match.groups()
        found[key] = gradients(drop or "nodrop", of or "signed.lambda0.5").get(parameter)
    return compare_recorded("srum_grads", tensors, found, tolerance=lambda key: GRADIENT)


def _gradient(case: Case, settings: RewardWeighted, good: bool) -> Callable[[Blip3oBatch], dict[str, np.ndarray]]:
    """From a batch to what a step of training hands to its optimizer, by published names."""
    graphdef, state = nnx.split(case.model)
    trained, frozen = split_trainable(state, ("default",), BLIP3O)
    keeps_gradient = optax.trace(decay=0.0)
    step = jax.jit(make_step(graphdef, recorded_forward(case, _COMPUTE, good=good), settings, keeps_gradient))
    before = TrainState(jnp.zeros((), jnp.int32), trained, keeps_gradient.init(trained))
    return lambda batch: published(step(before, frozen, batch)[0].optimizer.trace, case.plan)


def _batch(case: Case, drop: str, kind: str | None) -> Blip3oBatch:
    """Under a kind of reward map, or under ones."""
    ones = np.ones((len(case.tensors["train"]["u"]), case.config.dit.grid**2), np.float32)
    weight = ones if kind is None else case.tensors["srum"][f"reward_latent_{kind}"].reshape(ones.shape)
    return training_batch(case, drop, {"alpha": ones, "reward_map": weight})
