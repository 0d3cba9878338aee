"""Questions to the judge, from a TOML file that a user can replace in whole or in part."""

import dataclasses
import hashlib
import importlib.resources
import json
import string
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.storage.reading import read_text
from srum_jax.storage.text_template import read_template

# Placeholders that a table's text must have, and may have besides.
_REQUIRED: Mapping[str, frozenset[str]] = {
    "identify": frozenset({"prompt", "regions", "keywords"}),
    "local": frozenset({"prompt", "regions"}),
    "region": frozenset({"prompt", "box"}),
    "global": frozenset({"prompt"}),
    "sample": frozenset({"prompt"}),
    "grounding": frozenset({"prompt", "keywords"}),
    "repair": frozenset({"missing"}),
    "breakdown": frozenset({"prompt"}),
    "question": frozenset({"question"}),
    "region_question": frozenset({"box"}),
}
_OPTIONAL: Mapping[str, frozenset[str]] = {
    "identify": frozenset({"num_regions"}),
    "local": frozenset({"num_regions", "keywords"}),
    "region": frozenset({"keywords"}),
    "breakdown": frozenset({"max_questions"}),
    "question": frozenset({"object"}),
    "region_question": frozenset({"question", "object"}),
}
_YES_OR_NO = ("question", "region_question")  # whose answers are given, and compared
_FIELDS: Mapping[str, type] = {"text": str, "max_new_tokens": int, "think": bool, "yes": list, "no": list}


@dataclasses.dataclass(frozen=True)
class JudgeTemplate:
    """One question."""

    text: str  # with placeholders
    max_new_tokens: int = 1024
    think: bool | None = None  # None: as the run's settings say
    yes: tuple[str, ...] = ()  # spellings of that answer, where answers are compared and not written
    no: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the text and of answers that are given, hexadecimal."""
        told = json.dumps([self.text, self.yes, self.no]) if self.yes else self.text
        return hashlib.sha256(told.encode()).hexdigest()

    def fill(self, **values: str) -> str:
        """The question with its values, which are inserted as they are."""
        return string.Template(self.text).substitute(values)


@dataclasses.dataclass(frozen=True)
class JudgeTemplates:
    """All questions, by name: identify, local, region, global, sample, grounding, repair, breakdown, question,
    region_question."""

    tables: Mapping[str, JudgeTemplate]

    def __getitem__(self, name: str) -> JudgeTemplate:
        return self.tables[name]

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each, by name."""
        return {name: table.sha256 for name, table in sorted(self.tables.items())}

    @classmethod
    def read(cls, path: epath.PathLike | None = None) -> "JudgeTemplates":
        """Reads a file; tables and fields that it lacks are those of this package.

        Raises:
          TextFileError: it cannot be read. BadInput: naming the table and what is wrong with it.
        """
        shipped = _parse((importlib.resources.files(__package__) / "judge_templates.toml").read_text(encoding="utf-8"),
                         "judge_templates.toml")
        own: Mapping[str, Any] = {}
        if path is not None:
            own = _parse(read_text(path), str(path))
        for name in own:
            if name not in _REQUIRED or not isinstance(own[name], Mapping):
                raise BadInput(f"{path}: [{name}]: expected tables named {', '.join(_REQUIRED)}.")
        source = "judge_templates.toml" if path is None else str(path)
        return cls({name: _table(name, {**shipped[name], **own.get(name, {})}, source) for name in _REQUIRED})


def format_regions(boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int], normalised: bool) -> str:
    """The list of rectangles that is put into a question.

    Args:
      boxes: half-open pixels.
      size: width and height of the image.
      normalised: whether to tell thousandths of the image.
    """
    told = [corners_told(box, size, normalised) for box in boxes]
    return "\n".join(f"Region {number}: [{', '.join(map(str, box))}]" for number, box in enumerate(told, start=1))


def corners_told(box: Sequence[int], size: tuple[int, int], normalised: bool) -> list[int]:
    """The numbers that a judge is told of a box; arguments as for `format_regions`."""
    return [round(1000 * corner / size[axis % 2]) if normalised else corner for axis, corner in enumerate(box)]


def _parse(text: str, source: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{source}: not valid TOML ({error}).") from error


def _table(name: str, fields: Mapping[str, Any], source: str) -> JudgeTemplate:
    where = f"{source}: [{name}]"
    for field, value in fields.items():
        if field not in _FIELDS or type(value) is not _FIELDS[field]:
            known = ", ".join(f"{key} ({kind.__name__})" for key, kind in _FIELDS.items())
            raise BadInput(f"{where}: field '{field}': expected one of {known}; found {value!r}.")
    for field in ("yes", "no"):
        answers = fields.get(field)
        if (answers is not None) != (name in _YES_OR_NO) or not all(
            isinstance(answer, str) and answer.strip() for answer in answers or ()
        ) or answers == []:
            raise BadInput(f"{where}: field '{field}': expected " + (
                "a list of answers" if name in _YES_OR_NO else "no such field") + f", found {answers!r}.")
    if both := set(fields.get("yes", ())) & set(fields.get("no", ())):
        raise BadInput(f"{where}: fields 'yes' and 'no': expected different answers, found {sorted(both)} in both.")
    lists = {field: tuple(fields[field]) for field in ("yes", "no") if field in fields}
    template = JudgeTemplate(**{**fields, **lists, "text": fields["text"].strip()})
    if template.max_new_tokens < 1:
        raise BadInput(f"{where}: field 'max_new_tokens': expected a positive number, found "
                                 f"{template.max_new_tokens}.")
    read_template(template.text, where, _REQUIRED[name], _OPTIONAL.get(name, frozenset()))
    return template
