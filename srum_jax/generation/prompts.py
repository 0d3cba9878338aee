"""One prompt, ids and seeds of the images made from it, and the file that freezes all prompts of a run."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.rewards.judgement.words import has_directive, keywords
from srum_jax.storage.atomic_file import as_json_lines

MAX_ID_BYTES = 128
MAX_BASE_SEED = 2**63 - 1
_ALLOWED = re.compile(r"[A-Za-z0-9._-]+")
_OPTIONAL = ("tags", "height", "width", "image", "image_sha256")


class IdError(BadInput):
    """Text that cannot be part of a file name."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One row of a prompt file."""

    index: int  # place in the input, from 0; rows that were left out count
    set: str  # name of the whole list
    source_id: str  # unique in it
    prompt: str  # NFC
    category: str | None = None
    tags: tuple[str, ...] = ()
    height: int | None = None  # pixels; None: that of the run
    width: int | None = None
    image: str | None = None  # the picture to be edited, relative to the folder of the prompt file
    image_sha256: str | None = None  # of that file, hexadecimal
    keywords: tuple[str, ...] | None = None  # nouns that the prompt names, as base forms; None: found here
    has_directive: bool | None = None  # whether the prompt says how things are arranged; None: found here
    line: int | None = dataclasses.field(default=None, compare=False)  # where it stands, for messages; not kept

    def __post_init__(self):
        if self.keywords is None:
            object.__setattr__(self, "keywords", tuple(keywords(self.prompt)))
        if self.has_directive is None:
            object.__setattr__(self, "has_directive", has_directive(self.prompt))

    def record_id(self, candidate: int) -> str:
        """Names one image everywhere, files included."""
        return record_id(self.set, self.source_id, candidate)

    def to_json(self) -> dict[str, Any]:
        """Fields in the order of the file; those that are optional and absent are left out."""
        fields = {"index": self.index, "set": self.set, "source_id": self.source_id, "category": self.category,
                  "prompt": self.prompt, "keywords": list(self.keywords), "has_directive": self.has_directive}
        return fields | {name: getattr(self, name) for name in _OPTIONAL if getattr(self, name) not in (None, ())}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Prompt":
        """The inverse of `to_json`; fields that this version does not know are ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
                      if name in known})


def record_id(set_name: str, source_id: str, candidate: int) -> str:
    """`<set>-<source id>-c<candidate>`.

    Raises:
      IdError: it has other characters than letters, digits, dot, underscore and hyphen, or is too long.
    """
    for name, value in (("set name", set_name), ("id", source_id)):
        if not _ALLOWED.fullmatch(value):
            raise IdError(f"{name}: expected letters A-Z a-z, digits, '.', '_' and '-' only, found {value!r}")
    text = f"{set_name}-{source_id}-c{candidate:02d}"
    if len(text) > MAX_ID_BYTES:
        raise IdError(f"id: expected at most {MAX_ID_BYTES} bytes for set, id and candidate together, found "
                      f"{len(text)} ({text[:40]}...)")
    return text


def record_seed(base_seed: int, record_id: str) -> int:
    """An integer in [0, 2^63) (spec: reward stage, section 4), whatever processes run and in which order.

    Args:
      base_seed: of the run.
      record_id: of the image.
    """
    digest = hashlib.sha256(f"srum-seed-v1|{base_seed}|{record_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & 0x7FFFFFFFFFFFFFFF


def to_jsonl(prompts: Iterable[Prompt]) -> bytes:
    """Contents of `prompts.jsonl`."""
    return as_json_lines(prompt.to_json() for prompt in prompts)


def read_jsonl(path: epath.PathLike) -> list[Prompt]:
    """Reads a `prompts.jsonl`.

    Raises:
      ValueError: naming the line.
    """
    prompts = []
    with epath.Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                prompts.append(Prompt.from_json(json.loads(line)))
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}:{number}: not a prompt ({error}); it was changed after it was "
                                 "written.") from error
    return prompts
