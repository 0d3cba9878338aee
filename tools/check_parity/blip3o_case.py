"""A model case of BLIP3o, opened, and its tolerances."""

import dataclasses
from typing import Any

from etils import epath

from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.model import Blip3o
from srum_jax.models.compute import ComputeConfig
from srum_jax.weights.table import Plan
from tools.check_parity.result import GroupResult, Unchecked, compare_recorded
from tools.check_parity.tensors import Tensors

# Of every layer its result is looked at.
COMPUTE = ComputeConfig(scan_layers=False, remat="none")
ACTIVATION = {"share": 5e-5, "floor": 1e-6}
GRADIENT = {"share": 1e-4, "floor": 3e-7}
TABLE = {"absolute": 2e-5}  # preprocessing, reward maps, scheduler tables
TIMES = {"absolute": 1e-3}


@dataclasses.dataclass(frozen=True)
class Case:
    """What a check may need.

    Attributes:
      directory: of the case.
      config: of the model.
      model: with every part that the case has weights of.
      plan: pairs its arrays with published names.
      tensors: of each `golden_*` file, by its name without `golden_` and ending.
    """

    directory: epath.Path
    config: Blip3oConfig
    model: Blip3o
    plan: Plan
    tensors: dict[str, Tensors]


def compared(
    name: str, expected: Tensors, found: dict[str, Any], given: frozenset[str] = frozenset(), **tables: dict[str, float]
) -> list[GroupResult | Unchecked]:
    """Every tensor that a file holds: integers exactly, floats as activations.

    Args:
      name: of the file, for the report.
      expected: its tensors.
      found: what was recomputed.
      given: inputs of the case.
      **tables: tensors with an absolute tolerance of their own.
    """
    return compare_recorded(name, expected, found, ACTIVATION, given, tables)
