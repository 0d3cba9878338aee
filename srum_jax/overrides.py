"""`--set a.b=c` on nested frozen dataclasses, and their JSON form."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class OverrideError(ValueError):
    """A setting's name or value is not usable."""


def apply_overrides(config: T, settings: Sequence[str]) -> T:
    """Replaces fields by dotted name, all of them at once: settings that only go together may come in any order.

    Args:
      config: a frozen dataclass, with others inside it.
      settings: each `name=value`. Tuples are comma-separated, or JSON lists; "none" is None where that is allowed.
        A setting inside a group that may be absent, and is, makes the group, with its defaults.

    Raises:
      OverrideError: an unknown name (with the nearest one that exists), a value of another type, or one that the
        dataclass itself refuses.
    """
    values = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise OverrideError(f"--set {setting}: expected NAME=VALUE, for instance training.steps=200.")
        kind = _kind_of(config, name)
        try:
            values[tuple(name.split("."))] = _from_text(text, kind)
        except TypeError:
            raise OverrideError(f"--set {name}: expected {_title(kind)}, found {text!r}.") from None
    return _replaced(config, values) if values else config


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values; tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(kind: type[T], values: Mapping[str, Any], name: str = "") -> T:
    """The inverse of `to_json`. Fields that are absent keep their defaults.

    Args:
      kind: the dataclass.
      values: parsed JSON.
      name: where `values` stands in the whole, for messages.

    Raises:
      OverrideError: an unknown field, a value of another type, or one that the dataclass refuses.
    """
    hints = typing.get_type_hints(kind)
    fields = {}
    for field, value in values.items():
        full = f"{name}.{field}" if name else field
        if field not in hints:
            near = difflib.get_close_matches(field, hints, n=1, cutoff=0.0)
            raise OverrideError(f"{full}: no such setting; the nearest is {near[0] if near else 'none'}.")
        try:
            group = _group_of(hints[field]) if isinstance(value, Mapping) else None
            fields[field] = from_json(group, value, full) if group else _from_value(value, hints[field])
        except TypeError:
            raise OverrideError(f"{full}: expected {_title(hints[field])}, found {value!r}.") from None
    try:
        return kind(**fields)
    except TypeError as error:  # a field without a default is absent
        raise OverrideError(f"{name or 'experiment'}: {error}.") from None
    except OverrideError:
        raise
    except ValueError as error:
        raise OverrideError(str(error)) from error


def field_names(config: Any, prefix: str = "") -> list[str]:
    """All dotted names that can be set."""
    names = []
    for field in dataclasses.fields(config):
        value = _inside(config, field.name)
        nested = dataclasses.is_dataclass(value)
        names += field_names(value, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return names


def _kind_of(config: Any, name: str) -> Any:
    """The annotated type of a field."""
    group, kind = config, type(config)
    for part in name.split("."):
        hints = typing.get_type_hints(type(group)) if dataclasses.is_dataclass(group) else {}
        if part not in hints:
            near = difflib.get_close_matches(name, field_names(config), n=1, cutoff=0.0)
            raise OverrideError(f"--set {name}: no such setting; the nearest is {near[0] if near else 'none'}.")
        group, kind = _inside(group, part), hints[part]
    if dataclasses.is_dataclass(kind):
        raise OverrideError(f"--set {name}: names a group; set one of {', '.join(field_names(group, name + '.'))}.")
    return kind


def _inside(group: Any, field: str) -> Any:
    """A field's value; where it is a group that may be absent, and is, that group with its defaults."""
    value = getattr(group, field)
    kind = _group_of(typing.get_type_hints(type(group))[field])
    return kind() if value is None and kind is not None else value


def _group_of(kind: Any) -> type | None:
    """The dataclass that a field holds, always or at times."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)


def _replaced(config: T, values: Mapping[tuple[str, ...], Any], prefix: str = "") -> T:
    """The same dataclass with the fields at these paths replaced."""
    changes = {}
    for field in dict.fromkeys(path[0] for path in values):
        below = {path[1:]: value for path, value in values.items() if path[0] == field}
        if () in below and len(below) > 1:
            raise OverrideError(f"--set {prefix}{field}: cannot be none and have settings inside it.")
        changes[field] = below[()] if () in below else _replaced(_inside(config, field), below, f"{prefix}{field}.")
    try:
        return dataclasses.replace(config, **changes)
    except OverrideError:
        raise
    except ValueError as error:
        names = " ".join(f"--set {prefix}{'.'.join(path)}={value}" for path, value in values.items())
        raise OverrideError(f"{names}: {error}") from error


def _from_text(text: str, kind: Any) -> Any:
    """A value typed on the command line; TypeError where it is not of that kind."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and text.lower() in ("none", "null"):
            return None
        return _first_of(args, lambda option: _from_text(text, option))
    if (text.startswith("[") and origin is tuple) or (text.startswith('"') and kind is str):
        try:
            return _from_value(json.loads(text), kind)
        except ValueError:
            raise TypeError from None
    if origin is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return tuple(_from_text(part, item) for part, item in zip(parts, _item_kinds(args, parts), strict=True))
    if kind is str:
        return text
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise TypeError from None
    raise TypeError


def _from_value(value: Any, kind: Any) -> Any:
    """A value from JSON; TypeError where it is not of that kind."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None and type(None) in args else _first_of(args, lambda k: _from_value(value, k))
    if origin is tuple and isinstance(value, list):
        return tuple(_from_value(item, k) for item, k in zip(value, _item_kinds(args, value), strict=True))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _first_of(kinds: Sequence[Any], convert) -> Any:
    for kind in kinds:
        if kind is not type(None):
            try:
                return convert(kind)
            except TypeError:
                continue
    raise TypeError


def _item_kinds(args: tuple, items: Sequence[Any]) -> Sequence[Any]:
    if args[-1] is Ellipsis:
        return [args[0]] * len(items)
    if len(args) != len(items):
        raise TypeError
    return args


def _title(kind: Any) -> str:
    if not isinstance(kind, type) and (group := _group_of(kind)):
        return f"none, or a setting inside it ({', '.join(field.name for field in dataclasses.fields(group))})"
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
