"""Tables, times and schedules of a `units` case."""

import re
from collections.abc import Callable
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


def _function(name: str, pattern: str, values: Callable[..., Any], source: str | None = None):
    """A check of all tensors of a group, each computed from the numbers in its key.

    Args:
      name: of the group.
      pattern: of a key behind the name. A tensor that does not match was not recomputed, and fails.
      values: of the numbers and, if there is a source, of that tensor.
      source: the key, behind the name, of a tensor that is an input of all.
    """
    def check(entry: Any, tensors: Tensors) -> list[GroupResult]:
        del entry
        given = [] if source is None else [tensors.get(f"{name}.{source}")]
        pairs: list[Pair] = []
        for key in sorted(tensors):
            if key != f"{name}.{source}":
                match = re.fullmatch(rf"{name}\.{pattern}", key)
                known = match and all(value is not None for value in given)
                pairs.append((key, tensors[key], np.asarray(values(*match.groups(), *given)) if known else None))
        return [compare_floats(name, pairs, _ABSOLUTE, _RELATIVE)]

    return check


def _schedule(count: str, shift: str, part: str) -> Any:
    return denoise_schedule(int(count), float(shift))[part == "dt"]


check_sincos = _function("sincos", r"dim(\d+)\.side(\d+)", lambda dim, side: sincos_table(int(dim), int(side)))
check_timestep_embedding = _function(
    "timestep_embedding", r"out(\d+)", lambda width, times: timestep_features(jnp.asarray(times), int(width)), "t")
check_train_time = _function(
    "train_time", r"shift([\d.]+)", lambda shift, raw: timestep_from_logit(jnp.asarray(raw), float(shift)), "raw")
check_schedule = _function("schedule", r"n(\d+)\.shift([\d.]+)\.(t|dt)", _schedule)


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
