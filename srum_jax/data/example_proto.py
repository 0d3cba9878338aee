"""Reward records as bytes of `tf.train.Example`, without TensorFlow."""

import json
import struct
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from srum_jax.data.errors import SchemaError
from srum_jax.data.posterior import posterior_from_values, posterior_to_values
from srum_jax.data.schema import (
    FIELDS,
    MAX_RECORD_BYTES,
    SCHEMA_VERSION,
    DualLikelihood,
    Field,
    GlobalStatus,
    Region,
    RewardRecord,
    StoredLatent,
    StoredMap,
    Verdict,
    canonical_json,
    validate,
)
from srum_jax.rewards.boxes import Box

_LISTS = {"bytes": "bytes_list", "int": "int64_list", "float": "float_list"}


def encode_record(record: RewardRecord) -> bytes:
    """Bytes of a valid record; equal records give equal bytes.

    Raises:
      SchemaError: the record may not be stored.
    """
    values = _to_values(validate(record))
    example = tf_example_pb2.Example()
    for field in FIELDS:
        items = values[field.key]
        if field.length == "optional" and not items:
            continue
        if field.kind == "bytes" and field.text:
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
    example = tf_example_pb2.Example()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        raise SchemaError("(record)", "a tf.train.Example", f"{len(data)} bytes that do not parse") from error
    features = example.features.feature
    version = list(features["schema/version"].int64_list.value) if "schema/version" in features else []
    if version != [SCHEMA_VERSION]:
        raise SchemaError("schema/version", f"[{SCHEMA_VERSION}]", f"{version} (written by another version)")
    num_regions = len(features["region/score"].float_list.value) if "region/score" in features else 0
    return validate(_from_values({field.key: _read_field(field, features, num_regions) for field in FIELDS}))


def _read_field(field: Field, features: Any, num_regions: int) -> list:
    present = field.key in features and features[field.key].WhichOneof("kind") is not None
    if not present:
        items = []
    elif features[field.key].WhichOneof("kind") != _LISTS[field.kind]:
        raise SchemaError(field.key, _LISTS[field.kind], features[field.key].WhichOneof("kind"))
    else:
        items = list(getattr(features[field.key], _LISTS[field.kind]).value)
    if field.length == "optional":
        good, expected = len(items) <= 1, "at most 1 value"
    elif field.length == "any":
        good, expected = True, "any number of values"
    else:
        count = {"n": num_regions, "4n": 4 * num_regions}.get(field.length)
        count = int(field.length) if count is None else count
        good, expected = len(items) == count, f"{count} values"
    if not good:
        raise SchemaError(field.key, expected, f"{len(items)} values")
    if field.kind == "bytes" and field.text:
        try:
            items = [item.decode("utf-8") for item in items]
        except UnicodeDecodeError as error:
            raise SchemaError(field.key, "UTF-8 text", str(error)) from error
    return items


def _to_values(record: RewardRecord) -> dict[str, list]:
    regions = record.regions
    stored_map, latent, dual = record.stored_map, record.latent, record.dual
    has_global = record.global_status == GlobalStatus.OK
    global_raw = record.global_score if record.global_score_raw is None else record.global_score_raw
    return {
        "schema/version": [SCHEMA_VERSION],
        "record/id": [record.record_id],
        "record/index": [record.index],
        "record/candidate": [record.candidate],
        "prompt/text": [record.prompt],
        "prompt/set": [record.prompt_set],
        "prompt/source_id": [record.source_id],
        "prompt/category": [record.category],
        "prompt/has_directive": [int(record.has_directive)],
        "prompt/keywords": list(record.keywords),
        "image/encoded": [record.image_encoded],
        "image/format": [record.image_format],
        "image/width": [record.image_width],
        "image/height": [record.image_height],
        "image/sha256": [record.image_sha256],
        "think/text": [] if record.think_text is None else [record.think_text],
        "region/box": [value for region in regions for value in region.box],
        "region/area": [region.box.area if region.area is None else region.area for region in regions],
        "region/score": [region.score for region in regions],
        "region/score_raw": [region.score if region.score_raw is None else region.score_raw for region in regions],
        "region/severity": [region.severity for region in regions],
        "region/object": [region.object for region in regions],
        "region/reason": [region.reason for region in regions],
        "region/verdict": [int(region.verdict) for region in regions],
        "region/keyword": [region.keyword for region in regions],
        "region/predicted_iou": [region.predicted_iou for region in regions],
        "region/stability": [region.stability for region in regions],
        "region/provider": [record.provider],
        "region/num_found": [record.num_found],
        "global/status": [int(record.global_status)],
        "global/score": [record.global_score] if has_global else [],
        "global/score_raw": [global_raw] if has_global else [],
        "global/reason": [] if record.global_reason is None else [record.global_reason],
        "judge/mode": [record.judge_mode],
        "judge/flags": list(record.judge_flags),
        "judge/attempts": list(record.judge_attempts),
        "provenance/json": [canonical_json(record.provenance)],
        "reward/map": [stored_map.values] if stored_map else [],
        "reward/map_shape": list(stored_map.shape) if stored_map else [],
        "reward/map_kind": [stored_map.kind] if stored_map else [],
        "latent/encoded": [latent.values] if latent else [],
        "latent/shape": list(latent.shape) if latent else [],
        "latent/dtype": [latent.dtype] if latent else [],
        "latent/vae_sha256": [latent.vae_sha256] if latent else [],
        "dual/log_likelihood": [dual.log_likelihood] if dual else [],
        "dual/num_tokens": [dual.num_tokens] if dual else [],
        "dual/direction": [dual.direction] if dual else [],
        **posterior_to_values(record.posterior),
    }


def _from_values(values: dict[str, list]) -> RewardRecord:
    one = {key: items[0] if items else None for key, items in values.items()}
    boxes = values["region/box"]
    regions = tuple(
        Region(
            box=Box(*boxes[4 * i : 4 * i + 4]),
            score=values["region/score"][i],
            score_raw=values["region/score_raw"][i],
            area=values["region/area"][i],
            severity=values["region/severity"][i],
            object=values["region/object"][i],
            reason=values["region/reason"][i],
            verdict=_member(Verdict, "region/verdict", values["region/verdict"][i]),
            keyword=values["region/keyword"][i],
            predicted_iou=values["region/predicted_iou"][i],
            stability=values["region/stability"][i],
        )
        for i in range(len(values["region/score"]))
    )
    try:
        provenance = json.loads(one["provenance/json"])
    except (ValueError, RecursionError) as error:  # also: an integer of thousands of digits
        raise SchemaError("provenance/json", "JSON", str(error)) from error
    return RewardRecord(
        record_id=one["record/id"],
        index=one["record/index"],
        candidate=one["record/candidate"],
        prompt=one["prompt/text"],
        prompt_set=one["prompt/set"],
        source_id=one["prompt/source_id"],
        category=one["prompt/category"],
        has_directive=bool(one["prompt/has_directive"]),
        keywords=tuple(values["prompt/keywords"]),
        image_encoded=one["image/encoded"],
        image_format=one["image/format"],
        image_width=one["image/width"],
        image_height=one["image/height"],
        image_sha256=one["image/sha256"],
        think_text=one["think/text"],
        regions=regions,
        provider=one["region/provider"],
        num_found=one["region/num_found"],
        global_status=_member(GlobalStatus, "global/status", one["global/status"]),
        global_score=one["global/score"],
        global_score_raw=one["global/score_raw"],
        global_reason=one["global/reason"],
        judge_mode=one["judge/mode"],
        judge_flags=tuple(values["judge/flags"]),
        judge_attempts=tuple(values["judge/attempts"]),
        provenance=provenance,
        stored_map=StoredMap(one["reward/map"], tuple(values["reward/map_shape"]), one["reward/map_kind"] or "")
        if one["reward/map"] is not None else None,
        latent=StoredLatent(one["latent/encoded"], tuple(values["latent/shape"]), one["latent/dtype"] or "",
                            one["latent/vae_sha256"] or b"") if one["latent/encoded"] is not None else None,
        dual=DualLikelihood(one["dual/log_likelihood"], one["dual/num_tokens"] or 0, one["dual/direction"] or "")
        if one["dual/log_likelihood"] is not None else None,
        posterior=posterior_from_values(values),
    )


def _member(kind: type, field: str, value: int) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        raise SchemaError(field, "one of " + ", ".join(str(int(m)) for m in kind), repr(value)) from error


def float32(value: float) -> float:
    """The number that is read back after `value` was stored."""
    return struct.unpack("<f", struct.pack("<f", value))[0]
