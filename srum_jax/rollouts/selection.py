"""From rewarded groups to what a step learns from: units of one or two members, with columns, in rows of static shape.

Which units they are follows from the columns that the objective asks for:

    pair, side           the best and the worst member of a group, side by side in one row
    advantage            every member
    alpha, reward_map    every member, weighted by its advantage; the map is 1 everywhere

Columns that are measured (`measured.py`) come later.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import Batch, Example, Packer, Picture, stack_rows
from srum_jax.data.stored_code import StoredCode
from srum_jax.errors import BadInput
from srum_jax.mesh import ProcessRows
from srum_jax.objectives.columns import MEASURED, ColumnNames
from srum_jax.rewards.groups import advantages, alpha_of_advantage, best_and_worst
from srum_jax.rollouts.candidates import Group
from srum_jax.rollouts.config import GENERATION, RolloutConfig
from srum_jax.rollouts.inputs import stable_seed


@dataclasses.dataclass(frozen=True)
class Unit:
    """Members of a group that lie in one row."""

    group: Group
    members: tuple[int, ...]
    columns: tuple[dict[str, float], ...]  # of each member


@dataclasses.dataclass(frozen=True)
class PackedUnits:
    """Units as rows of a step."""

    rows: Batch  # NumPy arrays [R, ...]
    names: tuple[str, ...]  # of their inputs
    left_out: tuple[str, ...]  # why units found no place


def units_of(groups: Sequence[Group], columns: ColumnNames, config: RolloutConfig) -> list[Unit]:
    """What is learnt from the groups of a round, in their order.

    Raises:
      BadInput: the objective asks for columns that rollouts do not have.
    """
    found = []
    for direction in dict.fromkeys(group.direction for group in groups):
        same = [group for group in groups if group.direction == direction]
        names = packed_columns(columns, direction)
        found += _pairs(same, config) if "pair" in names else _weighted(same, names, config)
    return found


def packed_columns(columns: ColumnNames, direction: str) -> frozenset[str]:
    """Those columns of one direction that a unit brings.

    Raises:
      BadInput: the objective asks for columns that rollouts do not have.
    """
    names = frozenset(columns.image if direction == GENERATION else columns.text) - MEASURED
    if names not in ({"pair", "side"}, {"advantage"}, {"alpha", "reward_map"}):
        raise BadInput(f"objective: rollouts have no columns {', '.join(sorted(names)) or 'at all'} for {direction}; "
                       "use Joint with Preference, PolicyGradient or, for pictures, RewardWeighted, FlowPolicyGradient "
                       "or FlowPreference.")
    return names


def members_per_group(columns: ColumnNames, direction: str, config: RolloutConfig) -> int:
    """The most members of a group that a step learns from."""
    names = columns.image if direction == GENERATION else columns.text
    return 2 if "side" in names else config.group_size


def _pairs(groups: Sequence[Group], config: RolloutConfig) -> list[Unit]:
    pairs = best_and_worst(*_stacked(groups), config.min_gap)
    sides = ({"side": 1.0}, {"side": -1.0})
    return [Unit(group, (int(pairs.best[n]), int(pairs.worst[n])), sides)
            for n, group in enumerate(groups) if pairs.weight[n]]


def _weighted(groups: Sequence[Group], names: frozenset[str], config: RolloutConfig) -> list[Unit]:
    rewards, valid = _stacked(groups)
    found = advantages(rewards, valid, scale=config.advantage_scale)
    alpha = alpha_of_advantage(found, config.alpha_of)
    return [
        Unit(group, (member,), ({"advantage": found[n, member]} if "advantage" in names else
                                {"alpha": alpha[n, member], "reward_map": 1.0},))
        for n, group in enumerate(groups) for member in np.flatnonzero(valid[n]).tolist()
    ]


def _stacked(groups: Sequence[Group]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([group.rewards for group in groups]), np.stack([group.valid for group in groups])


def pack_units(
    units: Sequence[Unit], packer: Packer, batch: ProcessRows, config: RolloutConfig, text_dropout: float, seed: int
) -> PackedUnits:
    """Lays units out in rows, one after the other in turn; what is not filled is padding.

    Every process goes through all units, and packs those of its own rows, R of them.

    Args:
      units: of one step.
      packer: of the family.
      batch: of the rows, those that this process has.
      config: of the rounds.
      text_dropout: probability that a picture is learnt without its prompt.
      seed: of the random draws, common to the members of a unit: a pair is seen under one time.
    """
    rows = {int(number): packer.empty_row() for number in batch.rows}
    pairs = {number: {True: 0, False: 0} for number in rows}  # that lie in each row, of pictures and of texts
    names, left_out = [], []
    turns = {True: 0, False: 0}
    for unit in units:
        drawing = unit.group.direction == GENERATION
        place = turns[drawing] % batch.num_rows
        turns[drawing] += 1
        if place not in rows:
            continue
        number = pairs[place][drawing]
        pairs[place][drawing] += 1  # of a pair that is left out too: half of it may have found its place
        try:
            for member, columns in zip(unit.members, unit.columns, strict=True):
                numbered = columns | ({"pair": float(number)} if "side" in columns else {})
                draws = np.random.Generator(np.random.Philox(
                    key=[stable_seed(seed, unit.group.direction, unit.group.name, unit.members[0]), 0]))
                with_prompt = draws.random() >= text_dropout
                rows[place].add(_example(unit.group, member, numbered, config, with_prompt), draws)
        except CapacityError as error:
            left_out.append(str(error))
            continue
        names.append(unit.group.name)
    return PackedUnits(stack_rows([row.finish() for row in rows.values()]), tuple(names), tuple(left_out))


def _example(
    group: Group, member: int, columns: dict[str, float], config: RolloutConfig, with_prompt: bool
) -> Example:
    if group.direction == GENERATION:
        return Example(
            prompt=group.source if with_prompt else None,
            picture=_picture(group.outputs[member], None if group.codes is None else group.codes[member]),
            image_columns=lambda grid: {name: np.full((grid.rows, grid.columns), value, np.float32)
                                        for name, value in columns.items()},
        )
    return Example(prompt=config.rewards.request, picture=_picture(group.source), image_columns=lambda grid: {},
                   text_columns=columns, kind="reading", answer=group.outputs[member])


def _picture(pixels: np.ndarray, code: StoredCode | None = None) -> Picture:
    return Picture(pixels.shape[1], pixels.shape[0], pixels=pixels, code=code)
