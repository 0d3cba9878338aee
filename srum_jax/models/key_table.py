"""A reversible table between the tensors of a published checkpoint and the arrays of a model.

A rule pairs a source name with a parameter of the model and a permutation of axes, so that every rule can be read in
both directions. `{layer}` in a source name stands for the leading axis of a stacked parameter; any other
`{name}` stands for the same number on both sides:

  Rule("layers.{layer}.q_proj.weight", "layers.query.kernel", axes=(1, 0))
  Rule("down.{level}.conv.weight", "down.{level}.conv.kernel", axes=(2, 3, 1, 0))
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

import numpy as np

LAYER = "layer"
_FIELD = re.compile(r"\{(\w+)\}")
_NUMBER = r"(0|[1-9][0-9]*)"


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
      source: name pattern of the published tensor.
      target: path pattern of the model's parameter, dot-joined.
      axes: target axis i (behind the stack axis) is source axis `axes[i]`; None leaves the axes as they are. Source
        axes that none names have length 1.
      share: (k, n): the k-th of n equal parts of the source along its first axis.
      computed: makes the array from its shape where a checkpoint lacks the tensor; only for constants.
    """

    source: str
    target: str
    axes: tuple[int, ...] | None = None
    share: tuple[int, int] = (0, 1)
    computed: Callable[[tuple[int, ...]], np.ndarray] | None = None

    @property
    def stacked(self) -> bool:
        """Whether the parameter holds one source tensor per layer, stacked on its leading axis."""
        return "{" + LAYER + "}" in self.source

    @functools.cached_property
    def sources(self) -> re.Pattern[str]:
        """Matches the published tensors that the rule is for."""
        return name_pattern(self.source)

    @functools.cached_property
    def parameters(self) -> re.Pattern[str]:
        """Matches the parameters that the rule is for."""
        return name_pattern(self.target)


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Source tensors that the model does not need, and why. `*` at the end of a name stands for anything."""

    source: str
    reason: str

    @functools.cached_property
    def names(self) -> re.Pattern[str]:
        """Matches the names of these tensors."""
        pattern = name_pattern(self.source.removesuffix("*")).pattern
        return re.compile(f"{pattern}.*" if self.source.endswith("*") else pattern)


@dataclasses.dataclass(frozen=True)
class Table:
    """All rules of one model."""

    rules: Sequence[Rule]
    ignored: Sequence[Ignored] = ()

    def knows(self, source: str) -> bool:
        """Whether a rule is for a published tensor, or it is one that is ignored."""
        return (any(rule.sources.fullmatch(source) for rule in self.rules)
                or any(entry.names.fullmatch(source) for entry in self.ignored))

    def rules_for(self, parameter: str) -> list[tuple[Rule, re.Match[str]]]:
        """The rules that match a parameter; in a sound table, exactly one."""
        return [(rule, match) for rule in self.rules if (match := rule.parameters.fullmatch(parameter))]

    def is_stacked(self, parameter: str) -> bool:
        """Whether a parameter's leading axis counts layers.

        Raises:
          KeyError: the table has no rule for it.
        """
        matches = self.rules_for(parameter)
        if not matches:
            raise KeyError(parameter)
        return matches[0][0].stacked


def name_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression for names with numbers in place of each `{name}`."""
    parts = _FIELD.split(pattern)  # text, field, text, field, ..., text
    return re.compile("".join(
        re.escape(part) if i % 2 == 0 else f"(?P<{part}>{_NUMBER})" for i, part in enumerate(parts)
    ))
