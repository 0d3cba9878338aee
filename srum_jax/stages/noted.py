"""Settings that are noted in a file of a folder, and compared when a command goes on in it."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.stages.folder import OutputFolder
from srum_jax.storage import object_store


class RunChangedError(BadInput):
    """A folder was begun with other settings, prompts or weights."""


def compare_settings(path: epath.Path, settings: Mapping[str, Any], folder: OutputFolder) -> None:
    """Notes the settings of a stage in a file of the folder, or compares them with what was noted before.

    Raises:
      RunChangedError: it was begun with something else; lists the differences.
    """
    if not path.exists():
        folder.create_json(path, settings)
    compare_noted(path, settings)


def compare_noted(path: epath.Path, settings: Mapping[str, Any]) -> None:
    """Compares settings with those that were noted in a file.

    Raises:
      RunChangedError: they are others, or the file is damaged; lists the differences.
    """
    try:
        before = json.loads(object_store.read_bytes(path))
    except ValueError as error:
        raise RunChangedError(f"{path}: not valid JSON ({error}); use another --out.") from error
    raise_differences(path, before, settings, "Use another --out, or the same settings.")


def raise_differences(path: epath.Path, before: Any, settings: Any, advice: str) -> None:
    """Compares what a folder was begun with and what it is to be now.

    Raises:
      RunChangedError: lists the differences, and the advice.
    """
    differences = list(_differences(before, json.loads(json.dumps(settings)), ""))
    if differences:
        raise RunChangedError("\n  ".join([
            f"{path}: this folder was begun with something else:",
            *(f"{name}: the folder {_shown(old)}, this command {_shown(new)}" for name, old, new in differences),
            advice,
        ]))


def _differences(before: Any, after: Any, name: str):
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**after, **before}:
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
    elif before != after:
        yield name, before, after


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
