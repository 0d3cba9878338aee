"""What is written down of every image, and finding the rewritten prompt in a plan."""

import dataclasses
import re
import reprlib
import types
import typing
from typing import Any

from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.generation.work_units import Job
from srum_jax.inference.requests import GeneratedImage
from srum_jax.overrides import to_json
from srum_jax.stages import STAGE_VERSION

_SHA256 = re.compile("[0-9a-f]{64}")
_DETAILED = re.compile(r"detailed prompt:(.*?)(?:\n\n|\Z)", re.DOTALL)


def detailed_prompt(plan: str) -> str | None:
    """What follows the first `detailed prompt:` up to the next empty line or the end, trimmed; None without one."""
    found = _DETAILED.search(plan)
    return found[1].strip() if found else None


@dataclasses.dataclass(frozen=True)
class GenerationRecord:
    """One line of a chunk: what is known of an image (spec: reward stage, section 4)."""

    record_id: str
    index: int  # of its prompt
    candidate: int
    prompt: str
    category: str | None
    think: bool
    think_text: str | None
    think_truncated: bool
    detailed_prompt: str | None
    image: str  # the file, relative to `generate/`
    width: int  # pixels, as stored
    height: int
    seed: int | None  # None where no run of ours made the image, as for `sampler`
    sampler: dict[str, Any] | None
    stage_version: int = STAGE_VERSION
    source_image: str | None = None  # of edits
    source_image_sha256: str | None = None
    image_sha256: str = ""  # hexadecimal; empty inside the image's own file

    def to_json(self) -> dict[str, Any]:
        """Without what only edits have, and without a checksum that is not known yet."""
        absent = {"source_image": None, "source_image_sha256": None, "image_sha256": ""}
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in values if name not in absent or value != absent[name]}

    @classmethod
    def from_json(cls, line: Any) -> "GenerationRecord":
        """The inverse of `to_json`, of a record with its checksum; fields that it does not know are ignored.

        Raises:
          ValueError: a field is absent, or holds something else.
        """
        if not isinstance(line, dict):
            raise ValueError(f"expected an object, found {type(line).__name__}")
        hints, values = typing.get_type_hints(cls), {}
        for field in dataclasses.fields(cls):
            kinds = [typing.get_origin(kind) or kind for kind in typing.get_args(hints[field.name])
                     ] if isinstance(hints[field.name], types.UnionType) else [hints[field.name]]
            if field.name not in line:
                if not field.name.startswith("source_"):
                    raise ValueError(f"field '{field.name}': expected {_named(kinds)}, found no such field")
                continue
            value = line[field.name]
            if type(value) not in kinds:
                raise ValueError(f"field '{field.name}': expected {_named(kinds)}, found {reprlib.repr(value)}")
            if field.name in ("width", "height") and value < 1:
                raise ValueError(f"field '{field.name}': expected a positive number, found {value}")
            values[field.name] = value
        if not _SHA256.fullmatch(values["image_sha256"]):
            raise ValueError("field 'image_sha256': expected a SHA-256, 64 hexadecimal digits, found "
                             f"{reprlib.repr(values['image_sha256'])}")
        return cls(**values)


def _named(kinds: list[type]) -> str:
    return " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)


def generation_record(
    job: Job, image: GeneratedImage, stored_size: tuple[int, int], settings: GenerationSettings
) -> GenerationRecord:
    """What is written down of an image, but for the checksum of its file.

    Args:
      job: what was asked for.
      image: what came out.
      stored_size: height and width of the stored image, pixels; after cropping.
      settings: of the run.
    """
    prompt, noted = job.prompt, to_json(settings)
    return GenerationRecord(
        record_id=job.record_id, index=prompt.index, candidate=job.candidate, prompt=prompt.prompt,
        category=prompt.category, think=settings.think, think_text=image.plan, think_truncated=image.plan_truncated,
        detailed_prompt=None if image.plan is None else detailed_prompt(image.plan), image=job.image,
        width=stored_size[1], height=stored_size[0], seed=job.seed,
        sampler={**(noted["sampler"] or {}), "plan": noted["plan"]}, source_image=prompt.image,
        source_image_sha256=prompt.image_sha256,
    )
