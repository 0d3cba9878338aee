import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tensorflow_datasets.proto import tf_example_pb2

from srum_jax.data import tfds_metadata
from srum_jax.data.errors import SchemaError
from srum_jax.data.example_proto import decode_record, encode_record
from srum_jax.data.record_fields import FIELDS
from srum_jax.data.stored_code import POSTERIOR, StoredCode
from tests.data.made_up import made_up_record

KEYS = [field.key for field in FIELDS if field.key.startswith("code/")]


@st.composite
def codes(draw):
    dtype = draw(st.sampled_from(["float16", "int32"]))
    elements = st.floats(width=16, allow_nan=False, allow_infinity=False) if dtype == "float16" else st.integers(
        -(2**31), 2**31 - 1)
    values = draw(arrays(dtype, draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)), elements=elements))
    image = draw(st.tuples(st.integers(1, 64), st.integers(1, 64)))
    canvas = tuple(size + draw(st.integers(0, 3)) for size in image)
    return values, StoredCode.of(draw(st.sampled_from([POSTERIOR, "features"])), values, dtype, image=image,
                                 canvas=canvas, encoder_sha256=draw(st.binary(min_size=32, max_size=32)))


def stored(**changes):
    code = StoredCode.of(POSTERIOR, np.zeros((2, 3, 8)), "float16", image=(4, 6), canvas=(8, 8),
                         encoder_sha256=bytes(32))
    return made_up_record(1, code=dataclasses.replace(code, **changes))


@given(codes())
def test_values_read_back_as_they_were_written(made_up):
    values, code = made_up
    found = decode_record(encode_record(made_up_record(1, code=code))).code
    assert found == code and found.array.dtype == values.dtype
    np.testing.assert_array_equal(found.array, values)


@given(st.data(), codes())
def test_damaged_values_are_refused(data, made_up):
    _, code = made_up
    values = code.values
    how = data.draw(st.sampled_from(["cut", "longer", *(["not finite"] if code.dtype == "float16" else [])]))
    if how == "cut":
        values = values[: data.draw(st.integers(0, len(values) - 1))]
    elif how == "longer":
        values += data.draw(st.binary(min_size=1, max_size=9))
    else:
        place = data.draw(st.integers(0, len(values) // 2 - 1))
        bad = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
        values = values[: 2 * place] + np.float16(bad).tobytes() + values[2 * place + 2 :]
    record = made_up_record(1, code=dataclasses.replace(code, values=values))
    with pytest.raises(SchemaError, match=r"field 'code/values': expected .*, found \d+ (bytes|that are not)"):
        encode_record(record)


@pytest.mark.parametrize("field, changes", [
    ("kind", {"kind": ""}),
    ("dtype", {"dtype": "float32"}),
    ("shape", {"shape": ()}),
    ("shape", {"shape": (2, 0, 8)}),
    ("image_height", {"image_height": 0}),
    ("image_width", {"image_width": 16}),
    ("image_width", {"image_width": 6.0}),
    ("canvas_height", {"canvas_height": True}),
    ("canvas_width", {"canvas_width": -8}),
    ("values", {"shape": (2, 3, 10)}),
    ("encoder_sha256", {"encoder_sha256": b"short"}),
])
def test_a_wrong_field_is_named_with_what_was_expected(field, changes):
    with pytest.raises(SchemaError, match=f"field 'code/{field}': expected .*, found "):
        encode_record(stored(**changes))


def test_values_beyond_float16_are_refused_and_not_stored_as_infinity():
    code = StoredCode.of(POSTERIOR, np.full((2, 3, 8), 1e6, np.float32), "float16", image=(4, 6), canvas=(8, 8),
                         encoder_sha256=bytes(32))
    with pytest.raises(SchemaError, match="finite float16 numbers, found 48 that are not"):
        encode_record(made_up_record(1, code=code))


@pytest.mark.parametrize("key", KEYS)
def test_all_keys_are_there_or_none(key):
    example = tf_example_pb2.Example.FromString(encode_record(stored()))
    del example.features.feature[key]
    with pytest.raises(SchemaError, match=f"field '{key}': expected a value, because 'code/.*found nothing"):
        decode_record(example.SerializeToString())


def test_a_record_without_a_code_has_none_of_its_keys():
    example = tf_example_pb2.Example.FromString(encode_record(made_up_record(1)))
    assert not [key for key in example.features.feature if key.startswith("code/")]


def test_tensorflow_datasets_is_told_of_the_keys():
    names = tfds_metadata.features()["featuresDict"]["features"]["code"]["featuresDict"]["features"]
    assert {f"code/{name}" for name in names} == set(KEYS)
