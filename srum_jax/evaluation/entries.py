"""Reading the entries of a benchmark's files, with errors that name the file, the entry and the field."""

import json
from collections.abc import Mapping
from typing import Any

from srum_jax.errors import BadInput


def array_entries(name: str, data: bytes, fields: Mapping[str, type | tuple[type, ...]]) -> list[dict[str, Any]]:
    """The objects of a JSON array.

    Args:
      name: of the file.
      data: of the file, UTF-8.
      fields: that every entry must have, and their types.

    Raises:
      BadInput: naming what is wrong.
    """
    try:
        entries = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name}: not valid JSON ({error}).") from error
    if not isinstance(entries, list) or not entries:
        raise BadInput(f"{name}: expected a JSON array of objects, found {type(entries).__name__}.")
    for number, entry in enumerate(entries):
        check_fields(f"{name}: entry {number}", entry, fields)
    return entries


def line_entries(name: str, data: bytes, fields: Mapping[str, type | tuple[type, ...]]) -> list[dict[str, Any]]:
    """The objects of JSON lines; arguments and errors as for `array_entries`."""
    entries = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{name}:{number}: not valid JSON ({error}).") from error
        check_fields(f"{name}:{number}", entry, fields)
        entries.append(entry)
    return entries


def check_fields(where: str, entry: Any, fields: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raises BadInput if an entry is no object, or a field is absent or of another type."""
    if not isinstance(entry, dict):
        raise BadInput(f"{where}: expected an object, found {type(entry).__name__}.")
    for field, kinds in fields.items():
        value = entry.get(field)
        if not isinstance(value, kinds) or isinstance(value, bool):
            expected = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
            found = "no such field" if field not in entry else repr(value)[:80]
            raise BadInput(f"{where}: field '{field}': expected {expected}, found {found}.")


def refuse_repeated(name: str, field: str, ids: list[Any]) -> None:
    """Raises BadInput if an id occurs twice; names it and the entries."""
    seen: dict[Any, int] = {}
    for number, value in enumerate(ids):
        if value in seen:
            raise BadInput(f"{name}: entry {number}: field '{field}': {value!r} is also that of entry {seen[value]}.")
        seen[value] = number
