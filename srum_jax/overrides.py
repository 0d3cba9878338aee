"""`--set a.b=c` on nested frozen dataclasses, and their JSON form."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class OverrideError(ValueError):
    """A setting's name or value is not usable."""


def apply_overrides(config: T, settings: Sequence[str]) -> T:
    """Replaces fields by dotted name.

    Args:
      config: a frozen dataclass, with others inside it.
      settings: each `name=value`; a value is JSON, or text as it stands. Tuples are JSON lists or comma-separated.

    Raises:
      OverrideError: an unknown name (with the nearest one that exists), a value of another type, or one that the
        dataclass itself refuses.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise OverrideError(f"--set {setting}: expected NAME=VALUE, for instance training.steps=200.")
        config = _replace(config, name.strip().split("."), text.strip(), name.strip())
    return config


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values; tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def field_names(config: Any, prefix: str = "") -> list[str]:
    """All dotted names that can be set."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        names += field_names(value, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return names


def _replace(config: Any, path: list[str], text: str, name: str, root: Any = None) -> Any:
    root = config if root is None else root
    hints = typing.get_type_hints(type(config))
    if path[0] not in hints:
        near = difflib.get_close_matches(name, field_names(root), n=1, cutoff=0.0)
        raise OverrideError(f"--set {name}: no such setting; the nearest is {near[0] if near else 'none'}.")
    current = getattr(config, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(current):
            raise OverrideError(f"--set {name}: '{path[0]}' has no settings below it.")
        value = _replace(current, path[1:], text, name, root)
    elif dataclasses.is_dataclass(current):
        raise OverrideError(f"--set {name}: names a group; set one of {', '.join(field_names(current, name + '.'))}.")
    else:
        value = _parse(text, hints[path[0]], name)
    try:
        return dataclasses.replace(config, **{path[0]: value})
    except OverrideError:
        raise
    except ValueError as error:
        raise OverrideError(f"--set {name}={text}: {error}") from error


def _parse(text: str, kind: Any, name: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    try:
        return _coerce(value, text, kind)
    except TypeError:
        raise OverrideError(f"--set {name}: expected {_title(kind)}, found {text!r}.") from None


def _coerce(value: Any, text: str, kind: Any) -> Any:
    """The value as the annotated type; TypeError where it is another."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and (value is None or text in ("None", "none")):
            return None
        for option in args:
            if option is not type(None):
                try:
                    return _coerce(value, text, option)
                except TypeError:
                    continue
        raise TypeError
    if origin is tuple:
        items = value if isinstance(value, list) else [part.strip() for part in text.split(",") if part.strip()]
        if args[-1] is not Ellipsis and len(items) != len(args):
            raise TypeError
        kinds = [args[0]] * len(items) if args[-1] is Ellipsis else args
        return tuple(_coerce(_loads(item), str(item), k) for item, k in zip(items, kinds, strict=True))
    if kind is str:
        return value if isinstance(value, str) else text
    if kind is bool:
        named = {"True": True, "False": False}
        value = named.get(text, value)
        if not isinstance(value, bool):
            raise TypeError
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise TypeError from None
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError


def _loads(item: Any) -> Any:
    if not isinstance(item, str):
        return item
    try:
        return json.loads(item)
    except ValueError:
        return item


def _title(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
