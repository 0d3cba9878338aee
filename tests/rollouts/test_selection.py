"""What a step learns from a round's groups, without any model."""

import dataclasses

import numpy as np
import pytest

from srum_jax.data.errors import CapacityError
from srum_jax.errors import BadInput
from srum_jax.mesh import ProcessRows
from srum_jax.objectives.columns import ColumnNames
from srum_jax.objectives.config import Joint, PolicyGradient, Preference, RewardWeighted
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.groups import advantages
from srum_jax.rewards.token_grid import Grid
from srum_jax.rollouts import candidates
from srum_jax.rollouts.candidates import Group, Round, in_batches, rewarded, shuffled
from srum_jax.rollouts.config import RolloutConfig
from srum_jax.rollouts.inputs import Inputs
from srum_jax.rollouts.selection import pack_units, units_of
from srum_jax.rollouts.statistics import flat, statistics

PIXELS = np.zeros((8, 8, 3), np.uint8)
CONFIG = RolloutConfig(min_gap=1e-5)


def captions(*rewards, name="picture", texts=None, problems=None):
    texts = texts or tuple(f"caption {n}" for n in range(len(rewards)))
    group = Group("understanding", name, PIXELS, texts, np.full(len(rewards), np.nan),
                  tuple(problems or [None] * len(rewards)))
    return rewarded(group, rewards)


def pictures(*rewards, name="prompt 0"):
    outputs = tuple(np.full((8, 8, 3), n, np.uint8) for n in range(len(rewards)))
    return rewarded(Group("generation", name, "a red circle", outputs, np.full(len(rewards), np.nan),
                          (None,) * len(rewards)), rewards)


def rows(count, own=None):
    """A batch of so many rows, those of one process."""
    return ProcessRows(0, 1, np.arange(count) if own is None else np.array(own), count)


class FakeRow:
    """Notes examples; has room for some."""

    def __init__(self, room):
        self.room, self.examples, self.times = room, [], []

    def add(self, example, draws):
        if len(self.examples) == self.room:
            raise CapacityError("no room")
        self.examples.append(example)
        self.times.append(draws.standard_normal())

    def finish(self):
        return {"count": np.array(len(self.examples))}


class FakePacker:
    def __init__(self, room=8):
        self.room, self.rows = room, []

    def empty_row(self):
        self.rows.append(FakeRow(self.room))
        return self.rows[-1]


def test_the_best_and_the_worst_caption_lie_side_by_side_under_one_draw():
    groups = [captions(-1.0, -0.5, -2.0, name="a"), captions(-1.0, -1.0, -1.0, name="b"),
              captions(-3.0, -1.0, -2.0, name="c"), captions(-3.0, -1.0, -2.0, name="d")]
    units = units_of(groups, Preference.columns, CONFIG)
    assert [(unit.group.name, unit.members) for unit in units] == [("a", (1, 2)), ("c", (1, 0)), ("d", (1, 0))]
    packer = FakePacker()
    packed = pack_units(units, packer, rows(2), CONFIG, 0.0, seed=1)
    first, second = packer.rows
    columns = [(example.answer, dict(example.text_columns)) for example in first.examples]
    assert columns == [("caption 1", {"side": 1.0, "pair": 0.0}), ("caption 2", {"side": -1.0, "pair": 0.0}),
                       ("caption 1", {"side": 1.0, "pair": 1.0}), ("caption 0", {"side": -1.0, "pair": 1.0})]
    assert len(second.examples) == 2 and packed.names == ("a", "c", "d")
    assert first.times[0] == first.times[1] != first.times[2]
    assert all(example.kind == "reading" and example.prompt == CONFIG.rewards.request for example in first.examples)


def test_pictures_are_weighted_by_their_advantage_with_a_map_of_ones():
    group = pictures(-1.0, -2.0, -4.0)
    columns = Joint(generation=RewardWeighted()).columns
    units = units_of([group], columns, CONFIG)
    packer = FakePacker()
    pack_units(units, packer, rows(1), CONFIG, 0.0, seed=1)
    expected = np.maximum(advantages(group.rewards[None], group.valid[None])[0], 0)
    for example, weight in zip(packer.rows[0].examples, expected, strict=True):
        found = example.image_columns(Grid(2, 3, Box(0, 0, 8, 8), 8, 8))
        np.testing.assert_allclose(found["alpha"], np.full((2, 3), weight), rtol=1e-6)
        assert np.all(found["reward_map"] == 1) and example.prompt == "a red circle"


def test_policies_learn_from_every_member_that_counts():
    group = captions(-1.0, np.nan, -3.0)
    units = units_of([group], PolicyGradient().columns, CONFIG)
    assert [unit.members for unit in units] == [(0,), (2,)]
    assert sum(unit.columns[0]["advantage"] for unit in units) == 0
    later = units_of([group], PolicyGradient(on_policy=False, kl_coefficient=0.1).columns, CONFIG)
    assert [unit.columns for unit in later] == [unit.columns for unit in units]  # the others are measured


def test_columns_that_rollouts_do_not_have_are_an_error():
    with pytest.raises(BadInput, match=r"objective: rollouts have no columns weather"):
        units_of([captions(-1.0, -2.0)], ColumnNames(text=("weather",)), CONFIG)
    with pytest.raises(BadInput, match="no columns at all for understanding"):
        units_of([captions(-1.0, -2.0)], ColumnNames(image=("alpha", "reward_map")), CONFIG)


def test_a_unit_without_room_is_left_out_and_told():
    units = units_of([captions(-1.0, -2.0, name=name) for name in "abc"], PolicyGradient().columns, CONFIG)
    packed = pack_units(units, FakePacker(room=2), rows(2), CONFIG, 0.0, seed=0)
    assert packed.rows["count"].tolist() == [2, 2] and packed.left_out == ("no room",) * 2


def test_processes_pack_the_rows_of_one_between_them():
    units = units_of([captions(-1.0, -0.5, -2.0, name=name) for name in "abcdefg"], Preference.columns, CONFIG)
    packers = [FakePacker() for _ in range(3)]
    for packer, own in zip(packers, (None, (0, 2), (1, 3)), strict=True):
        pack_units(units, packer, rows(4, own), CONFIG, 0.0, seed=1)
    alone, first, second = ([[(example.answer, example.text_columns) for example in row.examples]
                             for row in packer.rows] for packer in packers)
    assert [first[0], second[0], first[1], second[1]] == alone


def test_a_pair_that_found_half_a_place_is_not_mixed_with_another():
    class OneTooLong(FakeRow):
        def add(self, example, draws):
            if len(self.examples) == 1 and not self.refused:
                self.refused = True
                raise CapacityError("too long")
            super().add(example, draws)

        refused = False

    units = units_of([captions(-1.0, -0.5, name=name) for name in "ab"], Preference.columns, CONFIG)
    packer = FakePacker()
    packer.empty_row = lambda: packer.rows.append(OneTooLong(8)) or packer.rows[-1]
    packed = pack_units(units, packer, rows(1), CONFIG, 0.0, seed=1)
    assert [example.text_columns["pair"] for example in packer.rows[0].examples] == [0.0, 1.0, 1.0]
    assert packed.names == ("b",) and packed.left_out == ("too long",)


def test_prompts_are_left_out_with_the_probability_that_is_asked():
    units = units_of([pictures(-1.0, -2.0)], Joint(generation=RewardWeighted()).columns, CONFIG)
    packer = FakePacker()
    pack_units(units, packer, rows(1), CONFIG, 1.0, seed=0)
    assert [example.prompt for example in packer.rows[0].examples] == [None, None]


def test_a_reward_that_is_no_number_takes_no_part():
    group = captions(-1.0, np.inf, -2.0, problems=[None, None, "truncated"])
    assert group.problems == (None, "not_finite", "truncated")
    assert group.valid.tolist() == [True, False, False] and np.isnan(group.rewards[1:]).all()


def test_the_last_batch_is_filled_up_and_order_is_kept():
    sizes = []

    def double(batch):
        sizes.append(len(batch))
        return [2 * item for item in batch]

    assert in_batches(double, [1, 2, 3, 4, 5], 2) == [2, 4, 6, 8, 10] and sizes == [2, 2, 2]


def test_rounds_without_any_difference_are_flat():
    alike, differ = captions(-1.0, -1.0), captions(-1.0, -2.0)
    assert flat([alike, alike], 1e-5) and not flat([alike, differ], 1e-5)


def test_what_is_logged_of_a_round():
    groups = (pictures(-1.0, -2.0, -4.0), captions(-1.0, -1.0, np.nan, texts=("a b c d e", "a b c d e", "")),
              captions(-1.0, -3.0, -2.0, texts=("one", "three words here", "two words"), name="other"))
    found = statistics(Round(groups, {"generation_outputs": 2.0}), CONFIG)
    means = {name: total / weight for name, (total, weight) in found.items()}
    assert means["rollouts/generation_reward"] == pytest.approx(-7 / 3)
    assert means["rollouts/generation_reward_gap"] == 3 and means["rollouts/understanding_reward_gap"] == 1
    assert means["rollouts/understanding_degenerate_share"] == 0.5
    assert means["rollouts/understanding_share_not_finite"] == pytest.approx(1 / 6)
    assert means["rollouts/understanding_distinct_outputs"] == 2.5
    assert means["rollouts/understanding_commonest_run_share"] == 0.5
    assert means["rollouts/understanding_length_correlation"] < -0.9
    assert means["time/round_generation_outputs"] == 2
    assert means["rollouts/generation_reward_std_in_group"] == pytest.approx(np.std([-1, -2, -4], ddof=1))


def test_a_round_in_which_nobody_counts_can_be_told():
    nobody = dataclasses.replace(captions(np.nan, np.nan), problems=("empty", "empty"))
    found = statistics(Round((nobody,), {}), CONFIG)
    assert "rollouts/understanding_reward" not in found
    assert found["rollouts/understanding_share_empty"] == (2.0, 2.0)


def test_shuffled_rewards_are_those_of_the_group_in_an_order_that_tells_nothing_of_its_members():
    group = captions(-4.0, -3.0, -2.0, -1.0, -9.0, problems=[None, None, None, None, "empty"])
    orders = [shuffled(group, seed).rewards for seed in range(400)]
    for found in orders:
        assert sorted(found[:4]) == [-4.0, -3.0, -2.0, -1.0] and np.isnan(found[4])
    best = np.bincount([int(np.argmax(found[:4])) for found in orders], minlength=4)
    assert best.min() > 70  # 100 expected, 8.7 its deviation
    np.testing.assert_array_equal(orders[7], shuffled(group, 7).rewards)
    assert shuffled(group, 1).problems == group.problems and group.rewards[0] == -4.0


def test_only_rounds_of_a_control_shuffle_and_each_in_its_own_way(monkeypatch):
    given = [pictures(*range(8)), captions(*range(8))]
    monkeypatch.setattr(candidates, "groups_of", lambda direction, *_: [g for g in given if g.direction == direction])
    inputs = Inputs(("a red circle",), (None,))

    def rewards(number, **settings):
        config = dataclasses.replace(CONFIG, prompts_per_round=1, pictures_per_round=1, **settings)
        return [group.rewards.tolist() for group in candidates.draw_round(number, None, inputs, config, 3).groups]

    assert rewards(0) == rewards(1) == [list(range(8))] * 2
    found = rewards(0, shuffle_rewards=True), rewards(1, shuffle_rewards=True)
    assert len({tuple(values) for both in found for values in both}) == 4
    assert found[0] == rewards(0, shuffle_rewards=True)
