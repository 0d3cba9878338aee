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
from srum_jax.data.posterior import KEYS, posterior_of_moments
from tests.data.made_up import made_up_record


@st.composite
def posteriors(draw):
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    values = draw(arrays(np.float16, (*shape[:2], 2 * shape[2]),
                         elements=st.floats(width=16, allow_nan=False, allow_infinity=False)))
    stride = draw(st.integers(1, 16))
    canvas = tuple(stride * (size + draw(st.integers(0, 3))) for size in shape[:2])
    return values, posterior_of_moments(values, canvas=canvas, downsample=stride,
                                        encoder_sha256=draw(st.binary(min_size=32, max_size=32)))


def stored(**changes):
    posterior = posterior_of_moments(np.zeros((2, 3, 8), np.float32), canvas=(8, 8), downsample=2,
                                     encoder_sha256=bytes(32))
    return made_up_record(1, posterior=dataclasses.replace(posterior, **changes))


@given(posteriors())
def test_moments_read_back_as_they_were_written(made_up):
    values, posterior = made_up
    found = decode_record(encode_record(made_up_record(1, posterior=posterior))).posterior
    assert found == posterior and found.array.dtype == np.float16
    np.testing.assert_array_equal(found.array, values)


@given(st.data(), posteriors())
def test_damaged_moments_are_refused(data, made_up):
    _, posterior = made_up
    moments = posterior.moments
    how = data.draw(st.sampled_from(["cut", "longer", "not finite"]))
    if how == "cut":
        moments = moments[: data.draw(st.integers(0, len(moments) - 1))]
    elif how == "longer":
        moments += data.draw(st.binary(min_size=1, max_size=9))
    else:
        place = data.draw(st.integers(0, len(moments) // 2 - 1))
        bad = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
        moments = moments[: 2 * place] + np.float16(bad).tobytes() + moments[2 * place + 2 :]
    record = made_up_record(1, posterior=dataclasses.replace(posterior, moments=moments))
    with pytest.raises(SchemaError, match=r"field 'posterior/moments': expected .*, found \d+ (bytes|that are not)"):
        encode_record(record)


@pytest.mark.parametrize("field, changes", [
    ("image_height", {"image_height": 0}),
    ("image_height", {"image_height": 5}),
    ("image_width", {"image_width": 16}),
    ("image_width", {"image_width": 6.0}),
    ("canvas_height", {"canvas_height": 7}),
    ("canvas_width", {"canvas_width": -8}),
    ("downsample", {"downsample": True}),
    ("channels", {"channels": 7}),
    ("moments", {"channels": 10}),
    ("encoder_sha256", {"encoder_sha256": b"short"}),
])
def test_a_wrong_field_is_named_with_what_was_expected(field, changes):
    with pytest.raises(SchemaError, match=f"field 'posterior/{field}': expected .*, found "):
        encode_record(stored(**changes))


def test_values_beyond_float16_are_refused_and_not_stored_as_infinity():
    moments = np.full((2, 3, 8), 1e6, np.float32)
    posterior = posterior_of_moments(moments, canvas=(8, 8), downsample=2, encoder_sha256=bytes(32))
    with pytest.raises(SchemaError, match="finite float16 numbers, found 48 that are not"):
        encode_record(made_up_record(1, posterior=posterior))


@pytest.mark.parametrize("key", KEYS)
def test_all_keys_are_there_or_none(key):
    example = tf_example_pb2.Example.FromString(encode_record(stored()))
    del example.features.feature[key]
    with pytest.raises(SchemaError, match=f"field '{key}': expected a value, because 'posterior/.*found nothing"):
        decode_record(example.SerializeToString())


def test_a_record_without_a_posterior_has_none_of_its_keys():
    example = tf_example_pb2.Example.FromString(encode_record(made_up_record(1)))
    assert not [key for key in example.features.feature if key.startswith("posterior/")]


def test_tensorflow_datasets_is_told_of_the_keys():
    names = tfds_metadata.features()["featuresDict"]["features"]["posterior"]["featuresDict"]["features"]
    assert {f"posterior/{name}" for name in names} == set(KEYS)
