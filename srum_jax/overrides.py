"""From frozen dataclasses to the command line: `--set a.b=c`, the list of settings in `--help`, and their JSON form.

A command that has settings besides its everyday flags keeps them in dataclasses, each beside the code that reads it:

    groups = together(sampler=FlowSampler(), plan=TextSampler)
    add_set_argument(parser, groups)
    chosen = apply_overrides(groups, args.set)  # chosen.sampler, chosen.plan
"""

import argparse
import ast
import dataclasses
import difflib
import enum
import inspect
import io
import json
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from srum_jax.errors import BadInput

T = TypeVar("T")


class OverrideError(BadInput):
    """A setting's name or value is not usable."""


def together(**groups: Any) -> Any:
    """Dataclasses of different kinds side by side, as one that `apply_overrides` and `describe` take.

    Args:
      **groups: instances; or a class for a group that is absent (None), and comes with its defaults when something in
        it is set.

    Returns:
      A frozen dataclass with these fields.
    """
    fields = [(name, value | None if isinstance(value, type) else type(value)) for name, value in groups.items()]
    values = {name: None if isinstance(value, type) else value for name, value in groups.items()}
    return dataclasses.make_dataclass("Settings", fields, frozen=True)(**values)


def apply_overrides(config: T, settings: Sequence[str]) -> T:
    """Replaces fields by dotted name, all of them at once: settings that only go together may come in any order.

    Args:
      config: a frozen dataclass, with others inside it. What a group's fields are follows from the instance that is
        there, so an annotation may be a Protocol.
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


def field_names(config: Any, prefix: str = "") -> list[str]:
    """All dotted names that can be set."""
    names = []
    for field in dataclasses.fields(config):
        value = _inside(config, field.name)
        nested = dataclasses.is_dataclass(value)
        names += field_names(value, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return names


def add_set_argument(parser: argparse.ArgumentParser, *configs: Any) -> None:
    """Adds `--set`, and to `--help` the list of all that it takes; the parser's formatter has to leave lines alone.

    Args:
      parser: of the command.
      *configs: what can be set; several where other arguments decide which of them it is.
    """
    group = parser.add_argument_group("settings", "\n".join(map(describe, configs)))
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                       help="override one of these; repeatable")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One thing that can be set.

    Attributes:
      name: dotted, from the outermost dataclass on.
      value: the present one, as `--set` takes it.
      comment: the values to choose from, where they are few, and what stands beside the field in the source.
    """

    name: str
    value: str
    comment: str


@dataclasses.dataclass(frozen=True)
class SettingGroup:
    """A dataclass of settings; `name` is empty for the outermost. `absent`: None unless something in it is set."""

    name: str
    comment: str
    absent: bool
    settings: tuple[Setting, ...]
    groups: tuple["SettingGroup", ...]


def settings_of(config: Any) -> SettingGroup:
    """All that can be set in a dataclass, those inside it included, in the order of its fields."""
    return _group_in(config, "", "", absent=False)


def _group_in(config: Any, name: str, comment: str, *, absent: bool) -> SettingGroup:
    comments, hints = _comments(type(config)), typing.get_type_hints(type(config))
    prefix = f"{name}." if name else ""
    settings, groups = [], []
    for field in dataclasses.fields(config):
        value, inside = getattr(config, field.name), _inside(config, field.name)
        beside = comments.get(field.name, "")
        if dataclasses.is_dataclass(inside):
            groups.append(_group_in(inside, prefix + field.name, beside or _title_of(type(inside)),
                                    absent=value is None))
        else:
            text = "; ".join(filter(None, (_choices(hints[field.name]), beside)))
            settings.append(Setting(prefix + field.name, _to_text(value), text))
    return SettingGroup(name, comment, absent, tuple(settings), tuple(groups))


def describe(config: Any, width: int = 110) -> str:
    """All that can be set, for `--help`: names, present values, and the comments beside the fields in the source.

    A line says NAME=VALUE as `--set` takes it.

    Args:
      config: as for `apply_overrides`.
      width: characters of a line.
    """
    return "\n".join(_described(settings_of(config), width))


def _described(group: SettingGroup, width: int) -> Iterator[str]:
    for setting in group.settings:
        line = f"  {setting.name}={setting.value}"
        column = 36
        if not setting.comment:
            yield line
            continue
        if len(line) > column - 2:
            yield line
            line = ""
        yield from textwrap.wrap(setting.comment, width, initial_indent=f"{line:{column}}",
                                 subsequent_indent=" " * column)
    for inside in group.groups:
        absent = f" (absent: {inside.name}=none)" if inside.absent else ""
        yield f"{inside.name}: {inside.comment}{absent}".rstrip()
        yield from _described(inside, width)


def _title_of(kind: type) -> str:
    doc = inspect.getdoc(kind) or ""
    return "" if doc.startswith(f"{kind.__name__}(") else doc.partition("\n")[0].rstrip(".")  # a dataclass makes one up


def _comments(kind: type) -> dict[str, str]:
    """What stands in the source beside or above each field of a dataclass, its bases' fields included."""
    comments: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # made at run time
            continue
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        found = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
        own_line = {row for row, token in found.items() if not token.line[: token.start[1]].strip()}
        for node in ast.parse(source).body[0].body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                first = node.lineno
                while first - 1 in own_line:
                    first -= 1
                words = [found[row].string.lstrip("# ") for row in range(first, node.end_lineno + 1) if row in found]
                comments[node.target.id] = " ".join(words)
    return comments


def _choices(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    return " or ".join(kind) if isinstance(kind, type) and issubclass(kind, enum.StrEnum) else ""


def _to_text(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, tuple):
        parts = [_to_text(item) for item in value]
        plain = not any(isinstance(item, tuple) or "," in part or part.strip() != part or not part
                        for item, part in zip(value, parts, strict=True))
        return ",".join(parts) if plain and not ",".join(parts).startswith("[") else json.dumps(value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        plain = value == value.strip() and not value.startswith('"')
        return str(value) if plain else json.dumps(value)
    return str(value)


def _kind_of(config: Any, name: str) -> Any:
    """The annotated type of a field."""
    group, kind = config, type(config)
    for part in name.split("."):
        hints = typing.get_type_hints(type(group)) if dataclasses.is_dataclass(group) else {}
        if part not in hints:
            near = difflib.get_close_matches(name, field_names(config), n=1, cutoff=0.0)
            raise OverrideError(f"--set {name}: no such setting; the nearest is {near[0] if near else 'none'}.")
        group, kind = _inside(group, part), hints[part]
    if dataclasses.is_dataclass(group) and not _may_be_absent(kind):
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


def _may_be_absent(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)


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
    if origin is typing.Literal or (isinstance(kind, type) and issubclass(kind, enum.StrEnum)):
        return _from_value(text, kind)
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
    if origin is typing.Literal and value in args:
        return value
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum) and value in list(kind):
        return kind(value)
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
    if choices := _choices(kind):
        return choices
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
