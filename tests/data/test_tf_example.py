"""Our description of `tf.train.Example` and TensorFlow's write and read the same bytes."""

from hypothesis import given
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from srum_jax.data.tf_example import Example

VALUES = {
    "bytes_list": st.lists(st.binary(max_size=9), max_size=3),
    "float_list": st.lists(st.floats(width=32, allow_nan=False), max_size=3),
    "int64_list": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
}
FEATURE = st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind]))


def filled(example, features):
    for name, (kind, values) in features.items():
        getattr(example.features.feature[name], kind).SetInParent()
        getattr(example.features.feature[name], kind).value.extend(values)
    return example.SerializeToString(deterministic=True)


@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), FEATURE, max_size=4))
def test_both_write_the_same_bytes_and_read_them(features):
    data = filled(Example(), features)
    assert data == filled(tf_example_pb2.Example(), features)
    read = Example.FromString(data).features.feature
    assert {name: (read[name].WhichOneof("kind"), list(getattr(read[name], kind).value))
            for name, (kind, _) in features.items()} == features
