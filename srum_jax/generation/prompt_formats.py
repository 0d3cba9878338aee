"""The forms that prompt files come in: which field is what."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from srum_jax.errors import BadInput

AUTO = "auto"
CUSTOM = "custom"
PLAIN = "plain"


@dataclasses.dataclass(frozen=True)
class PromptFormat:
    """Names of the fields of one row."""

    prompt: str
    id: str | None  # None: the row's number is its id
    category: str | None = None
    tag: str | None = None
    id_required: bool = True
    category_is_file_name: bool = False
    sizes_and_images: bool = False  # whether rows may have `height`, `width` and `image`
    lines_only: bool = False  # JSON lines, never an array
    plain_text: bool = False


FORMATS = {
    "t2i_compbench": PromptFormat("Question", "Question_id", "Category"),
    "wise": PromptFormat("Prompt", "prompt_id", "Category", tag="Subcategory"),
    "geneval": PromptFormat("prompt", None, "tag", sizes_and_images=True, lines_only=True),
    "reasonbench": PromptFormat("prompt", "id", category_is_file_name=True),
    PLAIN: PromptFormat("the line", None, plain_text=True),
    CUSTOM: PromptFormat("prompt", "id", "category", id_required=False, sizes_and_images=True),
}

# Fields that the rows of a format have, and those of custom files hardly would.
_SIGNS = {"t2i_compbench": {"Question", "Question_id"}, "wise": {"Prompt", "prompt_id"},
          "geneval": {"prompt", "tag", "include"}}


def find_format(name: str, fields: str | None) -> PromptFormat | None:
    """The format of a file.

    Args:
      name: one of `FORMATS`, or "auto": custom if there are `fields`.
      fields: "prompt=...,id=...,category=..." for the custom format, or None.

    Returns:
      None where the file itself has to say.

    Raises:
      BadInput: naming what was expected and found.
    """
    if name == AUTO:
        if fields is None:
            return None
        name = CUSTOM
    if name not in FORMATS:
        raise BadInput(f"--prompt-format: expected one of {AUTO}, {', '.join(FORMATS)}; found {name!r}.")
    if fields is None:
        return FORMATS[name]
    if name != CUSTOM:
        raise BadInput(f"--fields: only the custom format has it, found --prompt-format {name}.")
    given = {}
    for part in fields.split(","):
        key, equals, value = part.partition("=")
        if key not in ("prompt", "id", "category") or not equals or not value or key in given:
            raise BadInput("--fields: expected prompt=NAME, id=NAME and category=NAME, each at most once and "
                              f"separated by commas, found {part!r} in {fields!r}.")
        given[key] = value
    return dataclasses.replace(FORMATS[CUSTOM], **given, id_required="id" in given)


def recognise(row: Mapping[str, Any]) -> str:
    """The name of the format whose fields a row has; custom, if it has those of no other."""
    for name, fields in _SIGNS.items():
        if fields <= row.keys():
            return name
    return CUSTOM
