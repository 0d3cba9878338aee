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
from srum_jax.data.stored_code import KEYS, POSTERIOR, POSTERIOR_KEYS, StoredCode
from tests.data.made_up import made_up_record


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


def with_older_keys(**changes):
    """A record as it was written when posteriors were the only kind of code."""
    example = tf_example_pb2.Example.FromString(encode_record(made_up_record(1)))
    moments = np.arange(2 * 3 * 8, dtype="<f2")
    numbers = {"image_height": 4, "image_width": 6, "canvas_height": 8, "canvas_width": 8, "downsample": 2,
               "channels": 8} | changes
    for name, value in numbers.items():
        example.features.feature[f"posterior/{name}"].int64_list.value.append(value)
    for name, value in (("moments", moments.tobytes()), ("encoder_sha256", bytes(32))):
        example.features.feature[f"posterior/{name}"].bytes_list.value.append(value)
    return example, moments.reshape(2, 3, 8)


def test_posteriors_under_their_older_keys_are_read():
    example, moments = with_older_keys()
    found = decode_record(example.SerializeToString())
    expected = StoredCode.of(POSTERIOR, moments, "float16", image=(4, 6), canvas=(8, 8), encoder_sha256=bytes(32))
    assert found.code == expected
    assert decode_record(encode_record(found)) == found


@pytest.mark.parametrize("key", POSTERIOR_KEYS)
def test_of_the_older_keys_too_all_are_there_or_none(key):
    example, _ = with_older_keys()
    del example.features.feature[key]
    with pytest.raises(SchemaError, match=f"field '{key}': expected a value, because 'posterior/.*found nothing"):
        decode_record(example.SerializeToString())


@pytest.mark.parametrize("changes", [{"downsample": 0}, {"downsample": 3}, {"channels": 7}])
def test_older_keys_that_do_not_go_together_are_refused(changes):
    with pytest.raises(SchemaError):
        decode_record(with_older_keys(**changes)[0].SerializeToString())
