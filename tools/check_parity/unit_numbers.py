"""Tables, times and schedules of a `units` case."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np

from srum_jax.families.bagel.flow_sampling import denoise_schedule
from srum_jax.models.layers.sincos_table import sincos_table
from srum_jax.models.layers.timestep_embedding import timestep_features
from srum_jax.objectives.flow_path import timestep_from_logit
from srum_jax.training.config import OptimizerConfig
from srum_jax.training.optimizer import learning_rate_schedule
from tools.check_parity.result import GroupResult, Pair, compare_floats
from tools.check_parity.tensors import Tensors

_ABSOLUTE, _RELATIVE = 5e-5, 1e-5


def check_sincos(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Keys `sincos.dim{D}.side{N}`."""
    del entry

    def found(match: re.Match) -> np.ndarray:
        return sincos_table(int(match[1]), int(match[2]))

    return [_floats("sincos", tensors, r"sincos\.dim(\d+)\.side(\d+)", found)]


def check_timestep_embedding(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Keys `timestep_embedding.t` and `.out{width}`."""
    del entry
    times = tensors.get("timestep_embedding.t")

    def found(match: re.Match) -> np.ndarray | None:
        return None if times is None else np.asarray(timestep_features(jnp.asarray(times), int(match[1])))

    return [_floats("timestep_embedding", tensors, r"timestep_embedding\.out(\d+)", found, ("timestep_embedding.t",))]


def check_train_time(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Keys `train_time.raw` and `.shift{S}`."""
    del entry
    raw = tensors.get("train_time.raw")

    def found(match: re.Match) -> np.ndarray | None:
        return None if raw is None else np.asarray(timestep_from_logit(jnp.asarray(raw), float(match[1])))

    return [_floats("train_time", tensors, r"train_time\.shift([\d.]+)", found, ("train_time.raw",))]


def check_schedule(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Keys `schedule.n{N}.shift{S}.t` and `.dt`."""
    del entry

    def found(match: re.Match) -> np.ndarray:
        times, steps = denoise_schedule(int(match[1]), float(match[2]))
        return np.asarray(times if match[3] == "t" else steps)

    return [_floats("schedule", tensors, r"schedule\.n(\d+)\.shift([\d.]+)\.(t|dt)", found)]


def check_learning_rate(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Entry `lr`: the value that update k = 0, 1, ... used."""
    del tensors
    pairs: list[Pair] = []
    for number, case in enumerate(entry or []):
        config = OptimizerConfig(
            schedule=case["kind"], learning_rate=case["lr"], warmup_steps=case["warmup"], total_steps=case["total"],
            min_learning_rate=case["min_lr"])
        expected = np.asarray(case["lr_used_at_step"], np.float32)
        schedule = learning_rate_schedule(config)
        found = np.asarray([schedule(jnp.int32(step)) for step in range(len(expected))], np.float32)
        # Learning rates are tiny: they are compared as shares of the peak.
        pairs.append((f"lr[{number}] {case['kind']}", expected / case["lr"], found / case["lr"]))
    return [compare_floats("lr", pairs, 1e-6, _RELATIVE)]


def _floats(name: str, tensors: Tensors, pattern: str, found: Any, inputs: tuple[str, ...] = ()) -> GroupResult:
    """Compares every tensor; one that neither matches the pattern nor is an input was not recomputed, and fails."""
    pairs: list[Pair] = []
    for key in sorted(tensors):
        if key not in inputs:
            match = re.fullmatch(pattern, key)
            pairs.append((key, tensors[key], found(match) if match else None))
    return compare_floats(name, pairs, _ABSOLUTE, _RELATIVE)
