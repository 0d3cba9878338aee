import dataclasses
import hashlib
import itertools
import json
import re

import jax
import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from srum_jax.data.errors import DataError
from srum_jax.data.example_proto import encode_record
from srum_jax.data.manifest import shard_name
from srum_jax.data.schema import GlobalStatus, Region
from srum_jax.data.tfrecord import frame
from srum_jax.data.writer import write_records
from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.reward_map import RewardMapConfig
from tests.data.made_up import MODEL, OBJECTIVE, host_batches, image_bytes, made_up_record, write_made_up


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "records"
    write_made_up(folder)
    return folder


def iterator(folder, seed=5, process_index=0, process_count=1, objective=OBJECTIVE, **changes):
    return host_batches(folder, seed=seed, process_index=process_index,
                        process_count=process_count, objective=objective, **changes)


def take(batches, count):
    taken = [next(batches) for _ in range(count)]
    return jax.tree.map(np.array, taken)  # copies: buffers shared with workers are reused


def assert_equal(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def bad_shard(folder, record_number, payload=None, flip=None, num_shards=3, shard=1):
    """Replaces a record by another payload of any length, or flips a bit of it; sizes on record are kept up."""
    path = folder / shard_name("srum-rewards", shard, num_shards)
    data, offsets = path.read_bytes(), np.frombuffer((folder / f"{path.name}.index").read_bytes(), "<u8").astype(int)
    parts = [data[a:b] for a, b in itertools.pairwise(offsets)]
    if flip is not None:
        part = bytearray(parts[record_number])
        part[flip // 8] ^= 1 << (flip % 8)
        parts[record_number] = bytes(part)
    else:
        parts[record_number] = frame(payload)
    path.write_bytes(b"".join(parts))
    ends = np.cumsum([0] + [len(part) for part in parts])
    (folder / f"{path.name}.index").write_bytes(ends.astype("<u8").tobytes())
    lines = [json.loads(line) for line in (folder / "shards.jsonl").read_text().splitlines()]
    lines[shard]["num_bytes"] = int(ends[-1])
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "shards.jsonl").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_a_sample_is_the_prompt_and_then_its_image(records):
    (first,) = take(iterator(records, text_dropout=0.0, shuffle=False, rows_per_batch=1), 1)
    batch = jax.tree.map(lambda leaf: leaf[0], first.batch)
    letters = [ord(letter) for letter in "a cup 0"]
    tokens = [150, *letters, 151, 152, 153]
    assert first.record_ids == (("image-0", "image-1"),)
    assert batch.text_ids[: len(tokens)].tolist() == tokens
    assert batch.text.position[:11].tolist() == [*range(9), 9, 9]
    assert batch.text.order[:11].tolist() == [*range(9), 9, 9 + 1 + 30]
    assert batch.latent.sample[:30].tolist() == [0] * 30 and batch.latent.sample[30:60].tolist() == [1] * 30
    assert (batch.latent.sample[60:] == -1).all() and (batch.latent.split[60:] == -1).all()
    assert batch.latent.noise[:60].all() and batch.latent.full[:60].all()
    assert (batch.latent.position[:30] == 9).all()
    assert np.isfinite(batch.timestep_logit[:60]).all() and np.isneginf(batch.timestep_logit[60:]).all()
    assert len(np.unique(batch.timestep_logit[:60])) == 2
    assert batch.image_size.tolist() == [[20, 24], [20, 24]]
    rows, columns = np.divmod(np.arange(30), 6)
    assert batch.latent_index[:60].tolist() == [*(rows * 6 + columns), *((6 + rows) * 6 + columns)]
    assert batch.latent_position_ids[:30].tolist() == list(rows * 16 + columns)
    assert (batch.images[:, 20:] == 0).all()


def test_reward_maps_come_from_the_boxes_of_the_stored_image(tmp_path):
    write_made_up(tmp_path / "records", num_records=3)
    (first,) = take(iterator(tmp_path / "records", shuffle=False, rows_per_batch=1), 1)
    values = first.batch.image_columns["reward_map"][0, 30:60].reshape(5, 6)
    assert first.batch.image_columns["alpha"][0, 30] == 0.75
    np.testing.assert_allclose(values[:2, :3], 0.5)
    assert (values[3:] == 0).all() and (values[:, 3:] == 0).all()


def test_boxes_follow_the_image_when_it_is_resized_and_stay_behind_on_request(tmp_path):
    record = made_up_record(0, encoded=image_bytes(0, 48, 40), regions=(Region(Box(0, 0, 24, 40), 1.0),))
    write_records(tmp_path / "records", [record], num_shards=1)

    def right_most_column(**reward):
        batches = iterator(tmp_path / "records", samples_per_row=1, rows_per_batch=1,
                           objective=RewardWeighted(reward_map=RewardMapConfig(**reward)))
        (first,) = take(batches, 1)
        assert first.batch.image_size[0, 0].tolist() == [20, 24]
        return np.flatnonzero(first.batch.image_columns["reward_map"][0, :30].reshape(5, 6)[0]).max()

    assert right_most_column() == 2  # half of the image
    assert right_most_column(box_space="unscaled") == 5  # the stored coordinates cover all of the smaller canvas


def test_every_record_is_seen_once_in_each_epoch_in_another_order(records):
    batches = take(iterator(records, samples_per_row=1, rows_per_batch=11), 3)
    epochs = [[row[0] for row in batch.record_ids] for batch in batches]
    assert all(sorted(epoch) == sorted(f"image-{i}" for i in range(11)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = take(iterator(records, seed=6, samples_per_row=1, rows_per_batch=11), 1)
    assert [row[0] for row in other[0].record_ids] != epochs[0]


def test_text_is_dropped_as_often_as_asked(records):
    batches = take(iterator(records, text_dropout=0.5, rows_per_batch=50), 1)
    starts = batches[0].batch.text_ids == 150
    assert 25 < starts.sum() < 75


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_iterator_continues_exactly(records, num_workers):
    plain = iterator(records)
    expected = take(plain, 6)
    first = iterator(records, num_workers=num_workers)
    assert_equal(take(first, 2), expected[:2])
    state = json.loads(json.dumps(first.get_state()))
    assert_equal(take(first, 1), expected[2:3])
    first.close()
    second = iterator(records, num_workers=num_workers)
    second.set_state(state)
    assert second.get_state() == state
    assert_equal(take(second, 4), expected[2:])
    second.set_state(state)  # also backwards, in the same iterator
    assert_equal(take(second, 1), expected[2:3])
    second.close()
    plain.close()


def test_the_state_does_not_depend_on_the_number_of_workers_or_threads(records):
    states = set()
    for changes in ({}, {"num_threads": 1}, {"prefetch": 5}):
        batches = iterator(records, **changes)
        take(batches, 3)
        states.add(json.dumps(batches.get_state()))
        batches.close()
    assert len(states) == 1


def test_rows_of_two_processes_together_are_those_of_one(records):
    whole = take(iterator(records, rows_per_batch=4), 3)
    halves = [iterator(records, rows_per_batch=4, process_index=p, process_count=2) for p in range(2)]
    for expected in whole:
        parts = [take(half, 1)[0] for half in halves]
        assert parts[0].record_ids + parts[1].record_ids == expected.record_ids
        assert_equal(jax.tree.map(lambda a, b: np.concatenate([a, b]), parts[0].batch, parts[1].batch), expected.batch)
    assert halves[0].get_state() == halves[1].get_state()


def test_a_state_is_good_for_another_number_of_processes(records):
    one = iterator(records, rows_per_batch=4)
    take(one, 2)
    (expected,) = (state := one.get_state()) and take(one, 1)
    second = iterator(records, rows_per_batch=4, process_index=1, process_count=2)
    second.set_state(state)
    assert take(second, 1)[0].record_ids == expected.record_ids[2:]


def global_steps(folder, readers, count, state=None, **changes):
    """Names of the records of each step, read by a number of processes side by side, and the state after them."""
    parts = [iterator(folder, process_index=p, process_count=readers, prefetch=1, num_threads=1, **changes)
             for p in range(readers)]
    for part in parts:
        if state is not None:
            part.set_state(state)
    steps = [sum((next(part).record_ids for part in parts), ()) for _ in range(count)]
    (state,) = {json.dumps(part.get_state()) for part in parts}
    for part in parts:
        part.close()
    return steps, json.loads(state)


def test_each_step_has_the_same_rows_however_many_processes_read_and_whoever_resumes(records):
    expected, end = global_steps(records, 1, 6, rows_per_batch=8)
    for readers in ((1, 2, 4), (4, 1, 2), (2, 8, 1)):
        found, state = [], None
        for number in readers:  # each goes on from where the one before was stopped
            steps, state = global_steps(records, number, 2, state, rows_per_batch=8)
            found += steps
        assert found == expected and state == end, readers


def test_64_processes_read_every_record_exactly_once_in_each_epoch(tmp_path):
    write_made_up(tmp_path / "records", num_records=48)
    steps, _ = global_steps(tmp_path / "records", 64, 3, samples_per_row=1, rows_per_batch=64)
    names = [row[0] for step in steps for row in step]
    epochs = [names[start : start + 48] for start in range(0, len(names), 48)]
    assert len(epochs) == 4 and all(sorted(epoch) == sorted(f"image-{i}" for i in range(48)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_state_of_other_records_or_seed_is_refused(records, tmp_path):
    state = iterator(records).get_state()
    with pytest.raises(DataError, match="seed"):
        iterator(records, seed=1).set_state(state)
    write_made_up(tmp_path / "other", num_records=4)
    with pytest.raises(DataError, match="records"):
        iterator(tmp_path / "other").set_state(state)
    with pytest.raises(DataError, match="samples_per_row"):
        iterator(records, samples_per_row=1).set_state(state)
    with pytest.raises(DataError, match="next_row"):
        iterator(records).set_state(state | {"next_row": None})


def without_check(record):
    """Bytes that the writer would refuse."""
    good = dataclasses.replace(record, regions=made_up_record(1).regions)
    return tf_example_pb2.Example.FromString(encode_record(good))


def nan_score():
    example = without_check(made_up_record(1))
    example.features.feature["region/score"].float_list.value[:] = [float("nan")]
    return example.SerializeToString()


def box_outside():
    example = without_check(made_up_record(1))
    example.features.feature["region/box"].int64_list.value[:] = [0, 0, 25, 10]
    return example.SerializeToString()


def wrong_version():
    example = without_check(made_up_record(1))
    example.features.feature["schema/version"].int64_list.value[:] = [7]
    return example.SerializeToString()


def undecodable_image():
    example = without_check(made_up_record(1))
    encoded = example.features.feature["image/encoded"].bytes_list.value[0]
    example.features.feature["image/encoded"].bytes_list.value[:] = [encoded[: len(encoded) // 2]]
    return example.SerializeToString()


def long_prompt():
    return encode_record(made_up_record(1, prompt="x" * 100))


def large_image():
    return encode_record(made_up_record(1, encoded=image_bytes(0, 24, 24)))


def no_global_score():
    return encode_record(made_up_record(1, global_status=GlobalStatus.ABSENT, global_score=None))


@pytest.mark.parametrize("make, reason", [
    (nan_score, "region/score"), (box_outside, "region/box"), (wrong_version, "schema/version"),
    (undecodable_image, "undecodable image"), (long_prompt, "text tokens"), (large_image, "canvas 24 x 20"),
    (no_global_score, "global score is absent"), (lambda: b"rubbish", "tf.train.Example"),
])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_bad_record_stops_training_or_is_skipped_and_named(tmp_path, make, reason, policy):
    folder = tmp_path / "records"
    write_made_up(folder)
    path = bad_shard(folder, 2, make())  # the record written seventh
    batches = iterator(folder, on_bad_record=policy, shuffle=False, rows_per_batch=4, image_height=20)
    if policy == "stop":
        with pytest.raises(DataError, match=reason) as caught:
            next(batches)
        assert (caught.value.file, caught.value.record_number) == (str(path), 2)
        assert batches.get_state()["next_row"] == 0
        return
    (first,) = take(batches, 1)
    (bad,) = first.bad_records
    assert (bad.file, bad.record_number) == (str(path), 2)
    assert re.search(reason, bad.reason)
    assert first.record_ids[3] == ("image-6", "")
    assert (first.batch.latent.sample[3, 30:] == -1).all() and (first.batch.image_size[3, 1] == 0).all()
    batches.close()


@pytest.mark.parametrize("model, changes, reason", [
    (dataclasses.replace(MODEL, max_latent_size=4), {"max_size": 16, "stride": 20},
     "position table 4 x 4; lower rows.max_size or rows.stride"),
    (dataclasses.replace(MODEL, llm=dataclasses.replace(MODEL.llm, vocab_size=90)), {}, "token id 117, the model 90"),
])
def test_records_that_do_not_fit_the_model_are_named(records, model, changes, reason):
    batches = host_batches(records, model, **changes)
    with pytest.raises(DataError, match=reason):
        next(batches)


@pytest.mark.parametrize("bit", [3, 70, 200, 4000])
def test_a_flipped_bit_is_reported_by_file_and_record(tmp_path, bit):
    folder = tmp_path / "records"
    write_made_up(folder)
    path = bad_shard(folder, 1, flip=bit)
    batches = iterator(folder, rows_per_batch=6)
    with pytest.raises(DataError, match="checksum") as caught:
        next(batches)
    assert (caught.value.file, caught.value.record_number) == (str(path), 1)


@pytest.mark.slow
def test_bad_records_are_reported_from_workers_too(tmp_path):
    folder = tmp_path / "records"
    write_made_up(folder)
    path = bad_shard(folder, 1, nan_score())
    batches = iterator(folder, rows_per_batch=6, num_workers=2)
    with pytest.raises(DataError, match="region/score") as caught:
        next(batches)
    assert caught.value.file == str(path)
    batches.close()


@pytest.mark.parametrize("changes, message", [
    ({"text_capacity": 0}, "rows.text_capacity"), ({"on_bad_record": "ignore"}, "data.on_bad_record"),
    ({"text_dropout": 1.5}, "data.text_dropout"), ({"stride": 6}, "rows.stride"), ({"image_width": 30}, "image_width"),
    ({"rows_per_batch": 3, "process_count": 2}, "rows_per_batch"), ({"images_per_row": 1}, "images_per_row"),
    ({"vit_capacity": 4}, "rows.vit_capacity"), ({"seed": -1}, "seed"), ({"process_index": 1}, "process_index"),
])
def test_settings_out_of_range_are_named(records, changes, message):
    with pytest.raises(ValueError, match=message):
        iterator(records, **changes)


def test_a_closed_iterator_says_so(records):
    batches = iterator(records)
    next(batches)
    batches.close()
    with pytest.raises(ValueError, match="closed"):
        next(batches)
