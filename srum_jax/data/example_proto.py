"""Reward records as bytes of `tf.train.Example`, without TensorFlow."""

from typing import Any

from google.protobuf.message import DecodeError

from srum_jax.data.errors import SchemaError
from srum_jax.data.record_fields import BYTES, FIELDS, FLOAT, INT, TEXT, Field, record_of
from srum_jax.data.schema import MAX_RECORD_BYTES, SCHEMA_VERSION, RewardRecord, validate
from srum_jax.data.tf_example import Example

_LISTS = {BYTES: "bytes_list", TEXT: "bytes_list", INT: "int64_list", FLOAT: "float_list"}


def encode_record(record: RewardRecord) -> bytes:
    """Bytes of a valid record; equal records give equal bytes.

    Raises:
      SchemaError: the record may not be stored.
    """
    validate(record)
    example = Example()
    for field in FIELDS:
        items = field.values(record)
        if field.length.startswith("optional") and not items:
            continue
        if field.kind == TEXT:
            items = [item.encode("utf-8") for item in items]
        getattr(example.features.feature[field.key], _LISTS[field.kind]).value.extend(items)
    data = example.SerializeToString(deterministic=True)
    if len(data) > MAX_RECORD_BYTES:
        raise SchemaError("(record)", f"at most {MAX_RECORD_BYTES} bytes", f"{len(data)} bytes")
    return data


def decode_record(data: bytes) -> RewardRecord:
    """The record behind the bytes. Unknown keys are ignored.

    Raises:
      SchemaError: not an Example, another schema version, or a field that is missing, ill-typed or out of range.
    """
    example = Example()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        raise SchemaError("(record)", "a tf.train.Example", f"{len(data)} bytes that do not parse") from error
    features = example.features.feature
    version = list(features["schema/version"].int64_list.value) if "schema/version" in features else []
    if version != [SCHEMA_VERSION]:
        raise SchemaError("schema/version", f"[{SCHEMA_VERSION}]", f"{version} (written by another version)")
    num_regions = len(features["region/score"].float_list.value) if "region/score" in features else 0
    return validate(record_of({field.key: _read_field(field, features, num_regions) for field in FIELDS}))


def _read_field(field: Field, features: Any, num_regions: int) -> list:
    present = field.key in features and features[field.key].WhichOneof("kind") is not None
    if not present:
        items = []
    elif features[field.key].WhichOneof("kind") != _LISTS[field.kind]:
        raise SchemaError(field.key, _LISTS[field.kind], features[field.key].WhichOneof("kind"))
    else:
        items = list(getattr(features[field.key], _LISTS[field.kind]).value)
    count = field.count(num_regions)
    if field.length == "optional":
        good, expected = len(items) <= 1, "at most 1 value"
    else:
        good, expected = count is None or len(items) == count, f"{count} values"
    if not good:
        raise SchemaError(field.key, expected, f"{len(items)} values")
    if field.kind == TEXT:
        try:
            items = [item.decode("utf-8") for item in items]
        except UnicodeDecodeError as error:
            raise SchemaError(field.key, "UTF-8 text", str(error)) from error
    return items
