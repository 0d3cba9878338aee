"""A key table applied to one checkpoint and one model: every tensor has exactly one place, or there is an
error."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from srum_jax.models.key_table import LAYER, Rule, Table
from srum_jax.weights.dtypes import NAMES, WEIGHT_DTYPES
from srum_jax.weights.errors import raise_together


@dataclasses.dataclass(frozen=True)
class SourceTensor:
    """What is known of a published tensor before it is read."""

    dtype: np.dtype
    shape: tuple[int, ...]
    file: str  # for messages


@dataclasses.dataclass(frozen=True)
class Piece:
    """A region of a source tensor, mostly all of it, and its place: a target, or one layer of a stacked one."""

    source: str
    target: str
    layer: int | None
    axes: tuple[int, ...]  # target axis i is source axis axes[i], without the stack axis
    source_shape: tuple[int, ...]
    own: tuple[slice, ...]  # the region of the source

    @property
    def _single(self) -> tuple[int, ...]:
        """Axes of the source that the target lacks; they have length 1."""
        return tuple(axis for axis in range(len(self.source_shape)) if axis not in self.axes)

    def to_target(self, values: np.ndarray) -> np.ndarray:
        """Values of the source's region in the target's order of axes; a view."""
        single = self._single
        return values.transpose((*single, *self.axes))[(0,) * len(single)]

    def to_source(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `to_target`; a view."""
        single = self._single
        return np.expand_dims(values, tuple(range(len(single)))).transpose(np.argsort((*single, *self.axes)))

    def source_region(self, region: Sequence[slice]) -> tuple[slice, ...]:
        """Where in the source the given region of the target (without its stack axis) comes from."""
        found = list(self.own)
        for part, axis in zip(region, self.axes, strict=True):
            first = self.own[axis].start
            found[axis] = slice(first + part.start, first + part.stop)
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A table applied to one checkpoint and one model: each value of each source and each target exactly once.

    Attributes:
      table: that was applied.
      pieces: per target, its pieces in the order of layers.
      shapes: shape of every target.
      ignored: source name -> reason.
      computed: target -> the constant that no source holds.
    """

    table: Table
    pieces: Mapping[str, tuple[Piece, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    ignored: Mapping[str, str]
    computed: Mapping[str, Callable[[tuple[int, ...]], np.ndarray]]

    def by_source(self) -> dict[str, list[Piece]]:
        """The pieces by the names of their sources."""
        found: dict[str, list[Piece]] = {}
        for pieces in self.pieces.values():
            for piece in pieces:
                found.setdefault(piece.source, []).append(piece)
        return found


def make_plan(
    table: Table, sources: Mapping[str, SourceTensor], targets: Mapping[str, tuple[int, ...]], origin: str
) -> Plan:
    """Pairs every tensor of a checkpoint with its place in a model.

    Args:
      table: the rules.
      sources: the checkpoint's tensors.
      targets: path and shape of every array of the model.
      origin: the checkpoint's name, for messages.

    Raises:
      WeightsError: listing all that `paired` finds.
    """
    plan, problems = paired(table, sources, targets)
    raise_together(f"{origin}: does not fit the model", problems)
    return plan


def paired(
    table: Table, sources: Mapping[str, SourceTensor], targets: Mapping[str, tuple[int, ...]]
) -> tuple[Plan, list[str]]:
    """The plan of whatever fits, and what does not, tensors that differ in numbers alone together.

    Returns:
      The plan, and a line for every missing, extra, or wrongly shaped tensor and every target without a rule.
    """
    problems: list[str] = []
    pieces: dict[str, tuple[Piece, ...]] = {}
    computed = {}
    claims: dict[str, dict[tuple[int, int], list[str]]] = {}  # source -> share of it -> targets
    for target, shape in targets.items():
        matches = table.rules_for(target)
        if len(matches) != 1:
            found = ", ".join(f"'{rule.source}'" for rule, _ in matches) or "none"
            problems.append(f"model array '{target}': expected exactly one rule of the key table, found "
                            f"{found}; the table and the model disagree")
            continue
        rule, match = matches[0]
        wanted = _pieces(rule, match.groupdict(), target, shape)
        absent = [piece for piece in wanted if piece.source not in sources]
        if rule.computed is not None and len(absent) == len(wanted):
            computed[target] = rule.computed
            continue
        for piece in wanted:
            claims.setdefault(piece.source, {}).setdefault(rule.share, []).append(target)
        if absent:
            problems.append(f"{_named([piece.source for piece in absent])} missing: expected shape "
                            f"{absent[0].source_shape} (for '{target}'), found nothing; the files "
                            "are not all that was saved, or the JSON files beside them describe another model")
        misfits = [misfit for piece in wanted if piece.source in sources
                   and (misfit := _misfit(piece, sources[piece.source]))]
        problems += misfits[:1] if len(misfits) < 2 else [f"{misfits[0]} ({len(misfits) - 1} more like it)"]
        pieces[target] = tuple(wanted)
    ignored = {}
    extra: dict[str, list[str]] = {}  # by name without numbers
    for name, tensor in sources.items():
        reasons = [entry.reason for entry in table.ignored if entry.names.fullmatch(name)]
        users = claims.get(name, {})
        if twice := next((targets for targets in users.values() if len(targets) > 1), None):
            problems.append(f"{tensor.file}: tensor '{name}' would fill {', '.join(twice)}; the key table is wrong")
        elif reasons and not users:
            ignored[name] = reasons[0]
        elif not users:
            extra.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    for names in extra.values():
        first = sources[names[0]]
        problems.append(f"{first.file}: {_named(names)} extra ({_form(first.dtype, first.shape)}): expected no such "
                        "tensor in a model of this configuration; check the JSON files beside it, or remove the tensor")
    return Plan(table, pieces, dict(targets), ignored, computed), problems


def published_tensors(table: Table, targets: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every published tensor of a model, by the table alone.

    Args:
      table: the rules; exactly one must match each target.
      targets: path and shape of every array of the model.
    """
    shapes = {}
    for target, shape in targets.items():
        for rule, match in table.rules_for(target):
            shapes |= {piece.source: piece.source_shape
                       for piece in _pieces(rule, match.groupdict(), target, shape)}
    return shapes


def _pieces(rule: Rule, fields: dict[str, str], target: str, shape: tuple[int, ...]) -> list[Piece]:
    part = shape[1:] if rule.stacked else shape
    axes = rule.axes if rule.axes is not None else tuple(range(len(part)))
    source_shape, own = _in_source(rule, axes, part)
    layers = range(shape[0]) if rule.stacked else [None]
    return [Piece(rule.source.format(**fields, **({LAYER: layer} if rule.stacked else {})), target, layer, axes,
                  source_shape, own) for layer in layers]


def _in_source(
    rule: Rule, axes: tuple[int, ...], part: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """The shape of a source, and which region of it an array is."""
    if len(axes) != len(part):  # the rule does not fit the model, which is told of elsewhere
        return part, tuple(slice(0, size) for size in part)
    sizes = [1] * (max(axes, default=-1) + 1)
    for size, axis in zip(part, axes, strict=True):
        sizes[axis] = size
    number, of = rule.share
    own = [slice(0, size) for size in sizes]
    if of > 1:
        own[0] = slice(number * sizes[0], (number + 1) * sizes[0])
        sizes[0] *= of
    return tuple(sizes), tuple(own)


def _named(names: Sequence[str]) -> str:
    """The subject of a complaint about tensors that differ in numbers alone."""
    others = f" and {len(names) - 1} more like it are" if len(names) > 1 else " is"
    return f"tensor '{names[0]}'{others}"


def _misfit(piece: Piece, tensor: SourceTensor) -> str | None:
    expected = piece.source_shape
    if tensor.shape != expected:
        return (f"{tensor.file}: tensor '{piece.source}': expected shape {expected}, found {tensor.shape}; "
                "the weights and the JSON files beside them describe different models")
    if tensor.dtype not in WEIGHT_DTYPES:
        known = ", ".join(NAMES[dtype] for dtype in WEIGHT_DTYPES)
        return (f"{tensor.file}: tensor '{piece.source}': expected one of {known}, found "
                f"{NAMES[tensor.dtype]}; convert the checkpoint to a float dtype first")
    return None


def _form(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    return f"{NAMES[dtype]} {list(shape)}"
