"""The keys of a stored record: what each holds, and which attribute of `RewardRecord` or `Region` it is.

One table for writing, reading and the description that other readers get.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from srum_jax.data.errors import SchemaError
from srum_jax.data.schema import SCHEMA_VERSION, GlobalStatus, Region, RewardRecord, Verdict, canonical_json
from srum_jax.data.stored_code import StoredCode
from srum_jax.rewards.boxes import Box

BYTES, TEXT, INT, FLOAT = "bytes", "text", "int", "float"  # text: UTF-8


@dataclasses.dataclass(frozen=True)
class Field:
    """One key.

    Attributes:
      key: of `tf.train.Example`.
      kind: of its values: BYTES, TEXT, INT or FLOAT.
      length: of its list: a number; "n" and "4n": of regions; "any"; "optional": 0 or 1; "optional list": any, and no
        key where there are none.
      values: of a record.
      attribute: of the record, or of its regions, that is read from it; None: no single one.
      read: its value, from the values of the record, or of one region.
    """

    key: str
    kind: str
    length: str
    values: Callable[[RewardRecord], list]
    attribute: str | None = None
    read: Callable[[list], Any] = lambda values: values[0] if values else None

    @property
    def of_regions(self) -> bool:
        """Whether it has values for each region."""
        return self.length in ("n", "4n")

    def count(self, num_regions: int) -> int | None:
        """How many values there have to be; None where that is not fixed."""
        return {"n": num_regions, "4n": 4 * num_regions, "optional": None, "optional list": None, "any": None}.get(
            self.length, int(self.length) if self.length.isdigit() else None)


def record_of(values: dict[str, list]) -> RewardRecord:
    """A record from the values of all keys.

    Raises:
      SchemaError: a value that is none of its kind's; or a code of which some keys are there and some are not.
    """
    regions = tuple(
        Region(**{field.attribute: field.read(_share(values[field.key], number, field)) for field in _OF_REGIONS})
        for number in range(len(values["region/score"]))
    )
    own = {field.attribute: field.read(values[field.key]) for field in FIELDS
           if field.attribute is not None and not field.of_regions}
    return RewardRecord(regions=regions, code=_code_of(values), **own)


def _code_of(values: dict[str, list]) -> StoredCode | None:
    present, missing = ([key for key in _OF_CODE if bool(values[key]) is there] for there in (True, False))
    if present and missing:
        raise SchemaError(missing[0], f"a value, because '{present[0]}' has one", "nothing")
    return None if missing else StoredCode(**{
        name: tuple(values[key]) if name == "shape" else values[key][0] for key, name in _OF_CODE.items()})


def _share(values: list, number: int, field: Field) -> list:
    """The values of one region."""
    each = 4 if field.length == "4n" else 1
    return values[each * number : each * (number + 1)]


def _one(key: str, kind: str, attribute: str, put: Callable = lambda value: value, **read: Callable) -> Field:
    return Field(key, kind, "1", lambda record: [put(getattr(record, attribute))], attribute, **read)


def _optional(key: str, kind: str, attribute: str) -> Field:
    def values(record: RewardRecord) -> list:
        value = getattr(record, attribute)
        return [] if value is None else [value]

    return Field(key, kind, "optional", values, attribute)


def _several(key: str, kind: str, attribute: str, length: str = "any") -> Field:
    return Field(key, kind, length, lambda record: list(getattr(record, attribute)), attribute, tuple)


def _region(key: str, kind: str, put: Callable[[Region], Any] | None = None, **read: Callable) -> Field:
    attribute = key.partition("/")[2]
    put = put or (lambda region: getattr(region, attribute))
    return Field(key, kind, "n", lambda record: [put(region) for region in record.regions], attribute, **read)


_KINDS_OF_CODE = {"kind": TEXT, "dtype": TEXT, "values": BYTES, "encoder_sha256": BYTES}
_OF_CODE = {f"code/{field.name}": field.name for field in dataclasses.fields(StoredCode)}  # attribute by key


def _code(key: str, name: str) -> Field:
    def values(record: RewardRecord) -> list:
        value = getattr(record.code, name, None)
        return [] if value is None else list(value) if name == "shape" else [value]

    return Field(key, _KINDS_OF_CODE.get(name, INT), "optional list" if name == "shape" else "optional", values)


def _member(kind: type, key: str) -> Callable[[list], Any]:
    def read(values: list) -> Any:
        try:
            return kind(values[0])
        except ValueError as error:
            members = ", ".join(str(int(member)) for member in kind)
            raise SchemaError(key, f"one of {members}", repr(values[0])) from error

    return read


def _object(values: list) -> Any:
    try:
        return json.loads(values[0])
    except (ValueError, RecursionError) as error:  # also: an integer of thousands of digits
        raise SchemaError("provenance/json", "JSON", str(error)) from error


def _raw_score(record: RewardRecord) -> list:
    if record.global_score is None:
        return []
    return [record.global_score if record.global_score_raw is None else record.global_score_raw]


FIELDS: tuple[Field, ...] = (
    Field("schema/version", INT, "1", lambda record: [SCHEMA_VERSION]),
    _one("record/id", TEXT, "record_id"),
    _one("record/index", INT, "index"),
    _one("record/candidate", INT, "candidate"),
    _one("prompt/text", TEXT, "prompt"),
    _one("prompt/set", TEXT, "prompt_set"),
    _one("prompt/source_id", TEXT, "source_id"),
    _one("prompt/category", TEXT, "category"),
    _one("prompt/has_directive", INT, "has_directive", int, read=lambda values: bool(values[0])),
    _several("prompt/keywords", TEXT, "keywords"),
    _one("image/encoded", BYTES, "image_encoded"),
    _one("image/format", TEXT, "image_format"),
    _one("image/width", INT, "image_width"),
    _one("image/height", INT, "image_height"),
    _one("image/sha256", BYTES, "image_sha256"),
    _optional("think/text", TEXT, "think_text"),
    Field("region/box", INT, "4n", lambda record: [value for region in record.regions for value in region.box], "box",
          lambda values: Box(*values)),
    _region("region/area", INT, lambda region: region.box.area if region.area is None else region.area),
    _region("region/score", FLOAT),
    _region("region/score_raw", FLOAT, lambda region: region.score if region.score_raw is None else region.score_raw),
    _region("region/severity", FLOAT),
    _region("region/object", TEXT),
    _region("region/reason", TEXT),
    _region("region/verdict", INT, lambda region: int(region.verdict), read=_member(Verdict, "region/verdict")),
    _region("region/keyword", TEXT),
    _region("region/predicted_iou", FLOAT),
    _region("region/stability", FLOAT),
    _one("region/provider", TEXT, "provider"),
    _one("region/num_found", INT, "num_found"),
    _one("global/status", INT, "global_status", int, read=_member(GlobalStatus, "global/status")),
    _optional("global/score", FLOAT, "global_score"),
    Field("global/score_raw", FLOAT, "optional", _raw_score, "global_score_raw"),
    _optional("global/reason", TEXT, "global_reason"),
    _one("judge/mode", TEXT, "judge_mode"),
    _several("judge/flags", TEXT, "judge_flags"),
    _several("judge/attempts", INT, "judge_attempts", "3"),
    _one("provenance/json", TEXT, "provenance", canonical_json, read=_object),
    *(_code(key, name) for key, name in _OF_CODE.items()),
)
_OF_REGIONS = tuple(field for field in FIELDS if field.of_regions)
