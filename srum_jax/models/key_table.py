"""A reversible table between the tensors of a published checkpoint and the arrays of a model.

A rule pairs a source name with a target path and a permutation of axes, so that every rule can be read in
both directions. `{layer}` in a source name stands for the leading axis of a stacked target; any other
`{name}` stands for the same number on both sides:

  Rule("layers.{layer}.q_proj.weight", "layers.query.kernel", axes=(1, 0))
  Rule("down.{level}.conv.weight", "down.{level}.conv.kernel", axes=(2, 3, 1, 0))
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
      source: name pattern of the published tensor.
      target: path pattern of the model's array, dot-joined.
      axes: target axis i (behind the stack axis) is source axis `axes[i]`; None leaves the axes as they are.
      computed: makes the array from its shape where a checkpoint lacks the tensor; only for constants.
    """

    source: str
    target: str
    axes: tuple[int, ...] | None = None
    computed: Callable[[tuple[int, ...]], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Source tensors that the model does not need, and why."""

    source: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Table:
    """All rules of one model."""

    rules: Sequence[Rule]
    ignored: Sequence[Ignored] = ()
