import collections
import json
import math
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from srum_jax.data.config import DataConfig
from srum_jax.data.errors import DataError
from srum_jax.data.mixture import Interleaving, SampleOrder
from srum_jax.data.shuffle import shuffled_index
from srum_jax.overrides import OverrideError, apply_overrides
from srum_jax.training.experiment import Experiment
from tests.data.made_up import host_batches, made_up_record, write_made_up, write_records

WEIGHT = st.one_of(st.integers(1, 1000), st.integers(1, 10**6).map(lambda thousandths: thousandths / 1000))
WEIGHTS = st.lists(WEIGHT, min_size=1, max_size=9)
UNHURRIED = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@UNHURRIED
@given(WEIGHTS, st.integers(0, 10**12))
@example([0.1, 0.2, 0.7], 0)
def test_every_position_belongs_to_one_set_and_their_turns_are_counted(weights, start):
    order = Interleaving(weights)
    turns = [order.at(position) for position in range(start, start + 60)]
    assert all(0 <= turn.number < len(weights) for turn in turns)
    for number in range(len(weights)):
        counts = [turn.before for turn in turns if turn.number == number]
        assert counts == list(range(counts[0], counts[0] + len(counts))) if counts else True
    if start == 0:
        assert all(turn.before == 0 for turn in {turn.number: turn for turn in reversed(turns)}.values())


@UNHURRIED
@given(WEIGHTS, st.integers(0, 10**15), st.integers(0, 400))
def test_shares_hold_in_the_long_run_and_in_any_window(weights, start, length):
    order, levels = Interleaving(weights), math.ceil(math.log2(len(weights)))
    assert sum(order.shares) == 1
    places = [order.at(position) for position in range(start, start + length)]
    for number, share in enumerate(order.shares):
        assert share == pytest.approx(weights[number] / sum(weights))
        found = sum(place.number == number for place in places)
        assert abs(found - share * length) <= levels
    if places:
        last = places[-1]
        assert abs(last.before + 1 - order.shares[last.number] * (start + length)) <= Fraction(levels, 2)


def test_a_float_counts_as_the_decimal_fraction_that_it_prints_as():
    assert Interleaving([0.1, 0.2, 0.7]).shares == (Fraction(1, 10), Fraction(1, 5), Fraction(7, 10))
    numbers = [Interleaving([3, 1]).at(position).number for position in range(8)]
    assert numbers == [Interleaving([0.75, 0.25]).at(position).number for position in range(8)]
    assert sorted(numbers[:4]) == sorted(numbers[4:]) == [0, 0, 0, 1]


@given(SIZES, st.data(), st.integers(0, 2**64 - 1), st.booleans())
@UNHURRIED
def test_no_record_comes_twice_in_an_epoch_of_its_set_and_none_is_left_out(sizes, data, seed, shuffle):
    weights = data.draw(st.lists(st.integers(1, 20), min_size=len(sizes), max_size=len(sizes)))
    order = SampleOrder(sizes, weights, seed, shuffle)
    epochs = collections.defaultdict(list)
    for position in range(600):
        place = order.at(position)
        epochs[place.number, place.epoch].append(place.record)
    last = {number: max(epoch for n, epoch in epochs if n == number) for number, _ in epochs}
    for (number, epoch), records in epochs.items():
        assert len(set(records)) == len(records)
        if epoch < last[number]:  # complete
            assert sorted(records) == list(range(sizes[number]))


@given(st.integers(1, 100), st.integers(0, 2**64 - 1), st.integers(0, 10**9))
def test_one_set_in_a_mixture_has_the_order_that_it_has_alone(size, seed, position):
    assert SampleOrder([size], [0.3], seed, True).at(position).record == shuffled_index(
        position % size, size, seed, position // size)


def test_sets_of_one_size_are_not_shuffled_alike():
    order = SampleOrder([50, 50], [1, 1], seed=3, shuffle=True)
    places = [order.at(position) for position in range(100)]
    first, second = ([place.record for place in places if place.number == number] for number in (0, 1))
    assert sorted(first) == sorted(second) and first != second


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Three sets of 12, 5 and 7 records, in 3, 2 and 4 shards of unequal length."""
    folder = tmp_path_factory.mktemp("mixture")
    for name, count, shards in (("a", 12, 3), ("b", 5, 2), ("c", 7, 4)):
        write_records(folder / name, (made_up_record(i, record_id=f"{name}{i}") for i in range(count)),
                      num_shards=shards)
    return folder


def mixture_of(folder, **weights):
    return tuple((str(folder / name), weight) for name, weight in weights.items())


def iterator(records, *, process_index=0, process_count=1, seed=5, **changes):
    return host_batches("", records=records, prefetch=1, num_threads=1, seed=seed, process_index=process_index,
                        process_count=process_count, **changes)


def names_of(mixture, readers, num_steps, state=None, **changes):
    """Names of the records in the order of the whole job, read by some processes side by side, and the state then."""
    names, states = [], set()
    parts = [iterator(mixture, process_index=p, process_count=readers, **changes) for p in range(readers)]
    for part in parts:
        if state is not None:
            part.set_state(state)
    for _ in range(num_steps):
        names += [name for part in parts for row in next(part).record_ids for name in row]
    states = {json.dumps(part.get_state()) for part in parts}
    for part in parts:
        part.close()
    assert len(states) == 1
    return names, json.loads(states.pop())


def epochs_of(names, size):
    return [sorted(names[start : start + size]) for start in range(0, len(names) - size + 1, size)]


def test_sets_are_mixed_by_weight_and_each_has_its_own_epochs(sets):
    names, _ = names_of(mixture_of(sets, a=5, b=2, c=1), 1, 24, rows_per_batch=4)
    assert collections.Counter(name[0] for name in names) == {"a": 120, "b": 48, "c": 24}
    for start in range(len(names) - 8):
        window = collections.Counter(name[0] for name in names[start : start + 8])
        assert abs(window["a"] - 5) <= 2 and abs(window["b"] - 2) <= 2 and abs(window["c"] - 1) <= 2
    for letter, size in (("a", 12), ("b", 5), ("c", 7)):
        own = [name for name in names if name[0] == letter]
        epochs = epochs_of(own, size)
        assert epochs and all(epoch == sorted(f"{letter}{i}" for i in range(size)) for epoch in epochs)
        assert own[:size] != own[size : 2 * size]


@pytest.mark.parametrize("named", ["one set", "a mixture"])
def test_1_2_and_64_processes_read_the_same_order_and_every_record_once_in_each_epoch(sets, named):
    mixture = mixture_of(sets, c=1) if named == "one set" else mixture_of(sets, a=3, b=0.5, c=1)
    changes = {"rows_per_batch": 64, "samples_per_row": 1}
    expected, state = names_of(mixture, 1, 1, **changes)
    for letter, size in (("a", 12), ("b", 5), ("c", 7)):
        own = [name for name in expected if name[0] == letter]
        assert all(epoch == sorted(f"{letter}{i}" for i in range(size)) for epoch in epochs_of(own, size))
    for readers in (2, 64):
        assert names_of(mixture, readers, 1, **changes) == (expected, state)


def test_a_mixture_resumes_exactly_on_any_number_of_processes(sets):
    mixture = mixture_of(sets, a=2, b=1)
    expected, _ = names_of(mixture, 1, 6, rows_per_batch=8)
    found, state = [], None
    for readers in (4, 1, 8):
        names, state = names_of(mixture, readers, 2, state, rows_per_batch=8)
        found += names
    assert found == expected


def test_a_state_of_another_mixture_is_refused(sets):
    state = iterator(mixture_of(sets, a=2, b=1)).get_state()
    iterator(mixture_of(sets, a=4, b=2)).set_state(state)  # the same shares
    for other in (mixture_of(sets, a=1, b=1), mixture_of(sets, b=1, a=2), mixture_of(sets, a=2, c=1),
                  mixture_of(sets, a=2, b=1, c=1), mixture_of(sets, a=1)):
        with pytest.raises(DataError, match=r"does not belong to this run: records: the checkpoint has .*2/3"):
            iterator(other).set_state(state)


def test_a_mixture_of_one_set_is_the_set(sets):
    plain = host_batches(sets / "a")
    mixed = iterator(mixture_of(sets, a=0.5))
    assert plain.get_state() == mixed.get_state()
    for _ in range(8):
        assert next(plain).record_ids == next(mixed).record_ids
    plain.close(), mixed.close()


def test_a_bad_record_of_a_mixture_is_named_by_its_own_file(sets, tmp_path):
    write_records(tmp_path / "long", [made_up_record(0, prompt="x" * 100)], num_shards=1)
    batches = iterator((*mixture_of(sets, a=1), (str(tmp_path / "long"), 1)))
    with pytest.raises(DataError, match="text tokens") as caught:
        next(batches)
    assert caught.value.file.startswith(str(tmp_path / "long")) and caught.value.record_number == 0


def test_sets_that_cannot_be_mixed_are_named(sets, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such directory"):
        iterator((*mixture_of(sets, a=1), (str(tmp_path / "nowhere"), 1)))
    with pytest.raises(DataError, match=r"a: holds the same records as .*a; .*sum of the weights"):
        iterator(mixture_of(sets, a=1) * 2)
    write_made_up(tmp_path / "old")
    manifest = tmp_path / "old" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 7'))
    with pytest.raises(DataError, match=r"old/manifest\.json: field 'schema_version': expected 1, found 7"):
        iterator((*mixture_of(sets, a=1), (str(tmp_path / "old"), 1)))


@pytest.mark.parametrize("records", [(("a", 0),), (("a", -1.0),), (("a", math.nan),), (("a", math.inf),), (("", 1),),
                                     (("a",),), ("a", "b"), (("a", "1"),), (("a", True),), '[["a", 1]'])
def test_weights_that_are_not_positive_numbers_are_refused(records):
    with pytest.raises(ValueError, match=r"data\.records: expected (directories, each with a weight|a directory, or)"):
        DataConfig(records=records)


def test_the_name_of_a_directory_is_a_set_of_its_own():
    assert DataConfig(records="a,b").records == (("a,b", 1.0),)
    assert DataConfig(records="").records == DataConfig().records == ()


def test_records_can_be_given_on_the_command_line():
    experiment = apply_overrides(Experiment("x"), ['data.records=[["gs://b/a,1", 3], ["c", 0.5]]'])
    assert experiment.data.records == (("gs://b/a,1", 3.0), ("c", 0.5))
    one = apply_overrides(Experiment("x"), ["data.records=gs://b/a,1"])
    assert one.data.records == (("gs://b/a,1", 1.0),)
    for text in ('[["a", "much"]]', '[["a", 0]]', '[["a", 1]', '["a", 1]'):
        with pytest.raises(OverrideError, match=r"data\.records"):
            apply_overrides(Experiment("x"), [f"data.records={text}"])


def test_the_order_stays_what_it_was():
    """Runs are resumed by later versions: a change of these numbers would change their data."""
    order = SampleOrder([7, 5, 3], [0.5, 0.3, 0.2], seed=11, shuffle=True)
    assert [tuple(order.at(position)) for position in (*range(6), 10**12)] == [
        (0, 0, 6), (1, 0, 1), (0, 0, 3), (2, 0, 0), (0, 0, 5), (1, 0, 4), (0, 71428571428, 0)]
