"""Settings that are noted in a file of a folder, and compared when a command goes on in it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.stages.folder import create_once, readable_json
from srum_jax.storage import object_store


def note(path: epath.Path, settings: Mapping[str, Any]) -> None:
    """Notes settings in a file, or compares them with what it holds. Of several processes the first one writes it.

    Args:
      path: of the file; its folder is made.
      settings: whatever JSON can hold, without dates, paths or names of machines.

    Raises:
      BadInput: others were noted; lists the differences.
      WriteError: the file cannot be written.
    """
    if not compare(path, settings):
        create_once(path, readable_json(settings))
        compare(path, settings)


def compare(
    path: epath.Path, settings: Mapping[str, Any], *, option: str = "--out", may_change: tuple[str, ...] = ()
) -> bool:
    """Compares settings with those that were noted in a file, if there are any.

    Args:
      path: of the file.
      settings: of this command.
      option: of the command line, that names the folder.
      may_change: beginnings of dotted names whose values need not be those of before.

    Returns:
      Whether any were noted.

    Raises:
      BadInput: others were, or the file is damaged; lists the differences.
    """
    if not object_store.exists(path):
        return False
    raise_differences(path, read(path, option), settings, f"Use another {option}, or the same settings.", may_change)
    return True


def read(path: epath.Path, option: str = "--out") -> dict[str, Any]:
    """What was noted in a file.

    Raises:
      BadInput: it is damaged.
    """
    try:
        found = json.loads(object_store.read_bytes(path))
    except ValueError as error:
        raise BadInput(f"{path}: not valid JSON ({error}); use another {option}.") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path}: expected a JSON object, found {_shown(found)}; use another {option}.")
    return found


def raise_differences(
    place: epath.Path, before: Any, settings: Any, advice: str, may_change: tuple[str, ...] = ()
) -> None:
    """Compares what something was made with and what it is to be made with now.

    Raises:
      BadInput: lists the differences, and the advice.
    """
    differences = [line for line in _differences(before, json.loads(json.dumps(settings)), "")
                   if not line[0].startswith(may_change)]
    if differences:
        raise BadInput("\n  ".join([
            f"{place}: this folder was begun with something else:",
            *(f"{name}: the folder {_shown(old)}, this command {_shown(new)}" for name, old, new in differences),
            advice,
        ]))


def unshared_names(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names that only one of two groups of settings has: they come from different versions of the program."""
    names = sorted(prefix + name for name in before.keys() ^ after.keys())
    for name in before.keys() & after.keys():
        if isinstance(before[name], dict) and isinstance(after[name], dict):
            names += unshared_names(before[name], after[name], f"{prefix}{name}.")
    return names


def _differences(before: Any, after: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**after, **before}:
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
    elif before != after:
        yield name, before, after


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
