import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from srum_jax.data.errors import SchemaError
from srum_jax.data.example_proto import decode_record, encode_record
from srum_jax.data.record_fields import FIELDS
from srum_jax.data.schema import (
    GlobalStatus,
    Region,
    RewardRecord,
    Verdict,
)
from srum_jax.rewards.boxes import Box
from tests.data.made_up import made_up_record

text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8)
score = st.floats(-1, 1, width=32)


@st.composite
def regions(draw):
    x0, y0 = draw(st.integers(0, 23)), draw(st.integers(0, 19))
    box = Box(x0, y0, draw(st.integers(x0 + 1, 24)), draw(st.integers(y0 + 1, 20)))
    return Region(box, draw(score), draw(score), draw(st.integers(0, 10**6)), draw(st.floats(0, 1, width=32)),
                  draw(text), draw(text), draw(st.sampled_from(Verdict)), draw(text), 0.5, -1.0)


@st.composite
def records(draw):
    status = draw(st.sampled_from(GlobalStatus))
    has_score = status == GlobalStatus.OK
    return RewardRecord(
        record_id=draw(text.filter(bool)), index=draw(st.integers(0, 2**40)), prompt=draw(text.filter(str.strip)),
        image_encoded=draw(st.binary(min_size=1, max_size=30)), image_format="webp", image_width=24, image_height=20,
        image_sha256=bytes(32), candidate=draw(st.integers(0, 5)), prompt_set=draw(text), source_id=draw(text),
        category=draw(text), has_directive=draw(st.booleans()), keywords=tuple(draw(st.lists(text, max_size=3))),
        think_text=draw(st.none() | text), regions=tuple(draw(st.lists(regions(), max_size=4))), provider="both",
        num_found=draw(st.integers(0, 99)), global_status=status, global_score=draw(score) if has_score else None,
        global_score_raw=draw(score) if has_score else None, global_reason=draw(st.none() | text), judge_mode="sample",
        judge_flags=tuple(draw(st.lists(text, max_size=2))), judge_attempts=(1, 2, 3),
        provenance=draw(st.dictionaries(text, st.integers(-5, 5) | text, max_size=3)),
    )


@settings(max_examples=100, deadline=None)
@given(records())
def test_a_record_reads_back_as_it_was_written(record):
    data = encode_record(record)
    assert decode_record(data) == record
    assert encode_record(record) == data


def test_scores_are_stored_as_float32():
    record = made_up_record(1, global_score=0.1)
    assert decode_record(encode_record(record)).global_score == float(np.float32(0.1))


def test_every_field_of_the_format_is_written():
    record = made_up_record(2)
    example = tf_example_pb2.Example.FromString(encode_record(record))
    always = {field.key for field in FIELDS if not field.length.startswith("optional")}
    assert always <= set(example.features.feature)


def test_every_attribute_of_a_record_has_one_key():
    of_records, of_regions = ([field.attribute for field in FIELDS if field.attribute and field.of_regions is regional]
                              for regional in (False, True))
    names = {kind: {field.name for field in dataclasses.fields(kind)} for kind in (RewardRecord, Region)}
    assert sorted(of_records) == sorted(names[RewardRecord] - {"regions", "code"})
    assert sorted(of_regions) == sorted(names[Region])


@pytest.mark.parametrize("key", ["reward/map_shape", "latent/shape", "dual/num_tokens"])
def test_keys_that_earlier_versions_wrote_are_ignored(key):
    example = tf_example_pb2.Example.FromString(encode_record(made_up_record(1)))
    assert key not in example.features.feature
    example.features.feature[key].int64_list.value.append(3)
    assert decode_record(example.SerializeToString()) == decode_record(encode_record(made_up_record(1)))


def test_unknown_keys_are_ignored():
    example = tf_example_pb2.Example.FromString(encode_record(made_up_record(1)))
    example.features.feature["later/field"].int64_list.value.append(3)
    assert decode_record(example.SerializeToString()).record_id == "image-1"


@pytest.mark.parametrize(
    "field, changes",
    [
        ("region/score", {"regions": (Region(Box(0, 0, 5, 5), math.nan),)}),
        ("region/score", {"regions": (Region(Box(0, 0, 5, 5), 1.5),)}),
        ("region/box", {"regions": (Region(Box(0, 0, 25, 5), 0.5),)}),
        ("region/box", {"regions": (Region(Box(5, 5, 5, 9), 0.5),)}),
        ("region/box", {"regions": (Region(Box(0.0, 0, 5, 5), 0.5),)}),
        ("global/score", {"global_score": math.inf}),
        ("global/score", {"global_score": None}),
        ("global/score", {"global_status": GlobalStatus.ABSENT}),
        ("image/format", {"image_format": "bmp"}),
        ("image/width", {"image_width": 0}),
        ("prompt/text", {"prompt": " "}),
        ("record/id", {"record_id": ""}),
        ("region/provider", {"provider": "magic"}),
        ("image/sha256", {"image_sha256": b"short"}),
        ("provenance/json", {"provenance": {"loss": math.nan}}),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(field, changes):
    record = dataclasses.replace(made_up_record(1), **changes)
    with pytest.raises(SchemaError, match=f"schema_error: field '{field}.*expected .*found "):
        encode_record(record)


def changed_example(change):
    example = tf_example_pb2.Example.FromString(encode_record(made_up_record(1)))
    change(example.features.feature)
    return example.SerializeToString()


def test_another_schema_version_is_refused():
    def change(feature):
        feature["schema/version"].int64_list.value[:] = [2]

    with pytest.raises(SchemaError, match="schema/version"):
        decode_record(changed_example(change))


def test_lists_of_unequal_length_are_refused():
    def change(feature):
        feature["region/box"].int64_list.value.append(3)

    with pytest.raises(SchemaError, match=r"region/box.*expected 4 values, found 5"):
        decode_record(changed_example(change))


def test_a_field_of_another_kind_is_refused():
    def change(feature):
        feature["image/width"].float_list.value[:] = [1.0]

    with pytest.raises(SchemaError, match="image/width"):
        decode_record(changed_example(change))


def test_a_missing_field_is_refused():
    def change(feature):
        del feature["prompt/text"]

    with pytest.raises(SchemaError, match="prompt/text"):
        decode_record(changed_example(change))


def test_bytes_that_are_not_an_example_are_refused():
    with pytest.raises(SchemaError, match=r"tf\.train\.Example"):
        decode_record(b"\xff\xff\xff\xff")


@pytest.mark.parametrize("stored", [b"[" * 100_000, b"9" * 5000, b"[1]", b"NaN", b'{"a": "\\ud800"}'])
def test_provenance_that_is_no_json_object_is_refused(stored):
    example = tf_example_pb2.Example.FromString(encode_record(made_up_record(1)))
    example.features.feature["provenance/json"].bytes_list.value[0] = stored
    with pytest.raises(SchemaError, match="provenance/json"):
        decode_record(example.SerializeToString())


@pytest.mark.parametrize("field, changes", [
    ("prompt/text", {"prompt": "a \ud800"}), ("record/id", {"record_id": "\udcff"}),
    (r"region/reason\[0\]", {"regions": (Region(Box(0, 0, 2, 2), 0.5, reason="\ud800"),)}),
    ("record/candidate", {"candidate": 2**63}),
    (r"region/area\[0\]", {"regions": (Region(Box(0, 0, 2, 2), 0.5, area=2**63),)}),
])
def test_what_has_no_stored_form_is_named(field, changes):
    with pytest.raises(SchemaError, match=field):
        encode_record(made_up_record(1, **changes))
