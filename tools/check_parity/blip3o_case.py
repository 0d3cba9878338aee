"""Tolerances of the cases of BLIP3o."""

from collections.abc import Collection
from typing import Any

from tools.check_parity.result import GroupResult, Unchecked, compare_recorded
from tools.check_parity.tensors import Tensors

ACTIVATION = {"share": 5e-5, "floor": 1e-6}
GRADIENT = {"share": 1e-4, "floor": 3e-7}
TABLE = {"absolute": 2e-5}  # preprocessing, reward maps, scheduler tables
TIMES = {"absolute": 1e-3}


def compared(
    name: str, expected: Tensors, found: dict[str, Any], given: Collection[str] = (), **tables: dict[str, float]
) -> list[GroupResult | Unchecked]:
    """As `compare_recorded`: floats as activations, but for `tables`, which have an absolute tolerance of their own."""
    return compare_recorded(name, expected, found, given, tolerance=lambda key: tables.get(key, ACTIVATION))
