"""Reward records, version 1: one `tf.train.Example` for each judged image.

Boxes are x0, y0, x1, y1, half-open, in pixels of the stored image (not of the image as resized for training).
A `score` is what the judge said, in [-1, 1]; what multiplies the loss is a weight and is derived by
`srum_jax.rewards.reward_map` when records are read.
"""

import dataclasses
import enum
import json
import math
import numbers
from collections.abc import Iterator
from typing import Any

from srum_jax.data.errors import SchemaError, require
from srum_jax.data.stored_code import StoredCode, validate_code
from srum_jax.rewards.boxes import Box

SCHEMA_VERSION = 1
IMAGE_FORMATS = ("png", "webp", "jpeg")
PROVIDERS = ("sam", "components", "grounding", "both", "sample", "oracle")  # oracle: boxes of what was drawn
JUDGE_MODES = ("region", "sample")
MAX_RECORD_BYTES = 2**31 - 1
_MAX_INT64 = 2**63 - 1


class Verdict(enum.IntEnum):
    """Whether a region shows what the prompt asks for."""

    NOT_VERIFIED = 0
    MATCH = 1
    BACKGROUND = 2
    UNMATCHED = 3


class GlobalStatus(enum.IntEnum):
    """What became of the global judgement."""

    ABSENT = 0
    OK = 1
    UNPARSED = 2


@dataclasses.dataclass(frozen=True)
class Region:
    """One judged box."""

    box: Box
    score: float  # after post-processing, [-1, 1]
    score_raw: float | None = None  # as the judge gave it; None: the same
    area: int | None = None  # mask pixels; None: the box's
    severity: float = 0.0  # [0, 1]
    object: str = ""
    reason: str = ""
    verdict: Verdict = Verdict.NOT_VERIFIED
    keyword: str = ""
    predicted_iou: float = -1.0  # -1: absent
    stability: float = -1.0  # -1: absent


@dataclasses.dataclass(frozen=True)
class RewardRecord:
    """One judged image. Equal to what is stored; see `record_fields` for the keys."""

    record_id: str
    index: int  # of the prompt
    prompt: str
    image_encoded: bytes  # the file as stored
    image_format: str
    image_width: int  # pixels
    image_height: int
    image_sha256: bytes  # of image_encoded
    candidate: int = 0
    prompt_set: str = ""
    source_id: str = ""
    category: str = ""
    has_directive: bool = False
    keywords: tuple[str, ...] = ()
    think_text: str | None = None
    regions: tuple[Region, ...] = ()
    provider: str = "sam"
    num_found: int = 0  # proposals before selection
    global_status: GlobalStatus = GlobalStatus.ABSENT
    global_score: float | None = None  # [-1, 1]; present iff the status is OK
    global_score_raw: float | None = None  # None: the same
    global_reason: str | None = None
    judge_mode: str = "region"
    judge_flags: tuple[str, ...] = ()
    judge_attempts: tuple[int, int, int] = (0, 0, 0)  # identify, local, global
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    code: StoredCode | None = None  # of the image, for runs that do not encode it


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def validate(record: RewardRecord) -> RewardRecord:
    """Returns the record unchanged if it may be stored, apart from what only its image bytes can tell.

    Raises:
      SchemaError: naming the first field that is wrong, what was expected and what was found.
    """
    for field, text in _texts(record):
        require(is_unicode(text), field, "valid Unicode", ascii(text)[:80])
    require(bool(record.record_id), "record/id", "a name", "nothing")
    require(bool(record.prompt.strip()), "prompt/text", "a prompt", repr(record.prompt))
    for field, number in (("record/index", record.index), ("record/candidate", record.candidate),
                          ("region/num_found", record.num_found)):
        require(_is_count(number), field, "an integer that is not negative", repr(number))
    for field, number in (("image/width", record.image_width), ("image/height", record.image_height)):
        require(_is_integer(number) and number > 0, field, "a positive number of pixels", repr(number))
    _one_of("image/format", record.image_format, IMAGE_FORMATS)
    require(len(record.image_encoded) > 0, "image/encoded", "the bytes of an image", "nothing")
    require(len(record.image_sha256) == 32, "image/sha256", "32 bytes", f"{len(record.image_sha256)} bytes")
    _one_of("region/provider", record.provider, PROVIDERS)
    _one_of("judge/mode", record.judge_mode, JUDGE_MODES)
    require(len(record.judge_attempts) == 3, "judge/attempts", "3 values", f"{len(record.judge_attempts)} values")
    for number, region in enumerate(record.regions):
        _validate_region(region, f"[{number}]", record.image_width, record.image_height)
    _validate_global(record)
    if record.code is not None:
        validate_code(record.code)
    require(isinstance(record.provenance, dict), "provenance/json", "an object", type(record.provenance).__name__)
    try:
        canonical_json(record.provenance).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError("provenance/json", "a JSON object of finite numbers", str(error)) from error
    return record


def _validate_region(region: Region, place: str, width: int, height: int) -> None:
    require(len(region.box) == 4 and all(_is_integer(value) for value in region.box), f"region/box{place}",
            "4 integers", repr(tuple(region.box)))
    require(region.box.inside(width, height), f"region/box{place}",
            f"a box that is not empty, inside {width} x {height} pixels", repr(tuple(region.box)))
    _score(f"region/score{place}", region.score)
    if region.score_raw is not None:
        _score(f"region/score_raw{place}", region.score_raw)
    severe = math.isfinite(region.severity) and 0 <= region.severity <= 1
    require(severe, f"region/severity{place}", "a number in [0, 1]", repr(region.severity))
    if region.area is not None:
        require(_is_count(region.area), f"region/area{place}", "a number of pixels", repr(region.area))
    for field, value in (("predicted_iou", region.predicted_iou), ("stability", region.stability)):
        require(math.isfinite(value), f"region/{field}{place}", "a finite number", repr(value))
    require(region.verdict in tuple(Verdict), f"region/verdict{place}", "0, 1, 2 or 3", repr(region.verdict))


def _validate_global(record: RewardRecord) -> None:
    require(record.global_status in tuple(GlobalStatus), "global/status", "0, 1 or 2", repr(record.global_status))
    if record.global_status == GlobalStatus.OK:
        require(record.global_score is not None, "global/score", "a score, because global/status is 1", "nothing")
        _score("global/score", record.global_score)
        if record.global_score_raw is not None:
            _score("global/score_raw", record.global_score_raw)
    else:
        for field, score in (("score", record.global_score), ("score_raw", record.global_score_raw)):
            require(score is None, f"global/{field}",
                    f"nothing, because global/status is {int(record.global_status)}", repr(score))


def _texts(record: RewardRecord) -> Iterator[tuple[str, str]]:
    yield from (("record/id", record.record_id), ("prompt/text", record.prompt), ("prompt/set", record.prompt_set),
                ("prompt/source_id", record.source_id), ("prompt/category", record.category),
                ("think/text", record.think_text or ""), ("global/reason", record.global_reason or ""))
    yield from (("prompt/keywords", keyword) for keyword in record.keywords)
    yield from (("judge/flags", flag) for flag in record.judge_flags)
    for number, region in enumerate(record.regions):
        yield from ((f"region/{name}[{number}]", getattr(region, name)) for name in ("object", "reason", "keyword"))


def is_unicode(text: str) -> bool:
    """Whether a text can be stored as UTF-8."""
    # JSON can spell half of a surrogate pair, which has no UTF-8 form.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_count(value: Any) -> bool:
    return _is_integer(value) and 0 <= value <= _MAX_INT64


def _score(field: str, score: float) -> None:
    good = isinstance(score, numbers.Real) and not isinstance(score, bool) and math.isfinite(score) and -1 <= score <= 1
    require(good, field, "a finite number in [-1, 1]", repr(score))


def _one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, field, "one of " + ", ".join(choices), repr(value))


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
