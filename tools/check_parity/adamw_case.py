"""Recomputes `train_*_adamw.safetensors`: two optimizer steps on a training case's loss."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from srum_jax.objectives.config import RewardWeighted
from srum_jax.training.config import OptimizerConfig
from srum_jax.training.optimizer import make_optimizer
from tools.check_parity.published_names import published
from tools.check_parity.result import (
    GroupResult,
    Unchecked,
    compare_floats,
    compare_mostly,
    compare_relative,
)
from tools.check_parity.tensors import Tensors
from tools.check_parity.training_case import FORWARD, GRADIENT, NORM, TrainingCase, gradients, norm, trained

_HYPERPARAMETERS = ("lr", "beta1", "beta2", "eps", "clip", "weight_decay")
_PARAMETER = {"absolute": 1e-7, "outlier_absolute": 5e-5, "outlier_share": 1e-3}


def check(case: TrainingCase, name: str, tensors: Tensors) -> list[GroupResult | Unchecked]:
    """Compares every tensor of the file.

    Args:
      case: whose loss is minimised; its `in.noise` belongs to step 1, `in.noise_step2` to step 2.
      name: of the file, for the report.
      tensors: the file's tensors.
    """
    found = _recompute(case, tensors)
    groups: dict[str, list] = {}
    for key in sorted(tensors):
        group = re.match(r"(step\d+\.\w+|[\w.]+)", key).group(1)
        groups.setdefault(group, []).append((key, tensors[key], found.get(key)))
    results: list[GroupResult | Unchecked] = []
    for group, pairs in groups.items():
        title, kind = f"{name}/{group}", group.split(".")[-1]
        if group == "hp" or kind.startswith("noise"):
            results.append(Unchecked(title, "a setting of the case, used as it is"))
        elif kind == "param":
            results.append(compare_mostly(title, pairs, **_PARAMETER))
        elif kind == "loss":
            results.append(compare_floats(title, pairs, **FORWARD))
        elif kind == "grad_norm":
            results.append(compare_relative(title, pairs, **NORM))
        else:
            results.append(compare_relative(title, pairs, **GRADIENT))
    return results


def _recompute(case: TrainingCase, tensors: Tensors) -> Tensors:
    settings = dict(zip(_HYPERPARAMETERS, map(float, tensors["hp"]), strict=False))
    optimizer = make_optimizer(OptimizerConfig(
        learning_rate=settings["lr"], beta1=settings["beta1"], beta2=settings["beta2"], eps=settings["eps"],
        clip_norm=settings["clip"], weight_decay=settings["weight_decay"], warmup_steps=0,
    ))
    parameters, rest = nnx.split_state(case.state, trained, ...)
    state = optimizer.init(parameters)
    found: Tensors = {}
    second_noise = tensors.get("in.noise_step2", case.tensors.get("in.noise_step2"))
    for step, flow in ((1, case.tensors["in.noise"]), (2, second_noise)):
        noise = dataclasses.replace(case.golden.noise, flow=jnp.asarray(flow)[None])
        current = dataclasses.replace(case, state=nnx.merge_state(parameters, rest))
        loss, gradient = gradients(current, case.rewarded("reward01"), RewardWeighted(), noise)
        by_name = published(gradient, case.plan)
        total = np.sqrt(sum(norm(value) ** 2 for value in by_name.values()))
        clip = min(1.0, settings["clip"] / (total + 1e-6))
        found |= {f"step{step}.clipped_grad.{name}": value * np.float32(clip) for name, value in by_name.items()}
        found |= {f"step{step}.loss": np.asarray(loss), f"step{step}.grad_norm": np.float32(total)}
        updates, state = jax.jit(optimizer.update)(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        found |= {f"step{step}.param.{name}": v for name, v in published(parameters, case.plan).items()}
        for kind, field in (("exp_avg", "mu"), ("exp_avg_sq", "nu")):
            [(_, values)] = optax.tree_utils.tree_get_all_with_path(state, field)
            found |= {f"step{step}.{kind}.{name}": v for name, v in published(values, case.plan).items()}
    return found
