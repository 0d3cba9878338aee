"""The page of all settings of a run, from the dataclasses that hold them."""

import typing
from collections.abc import Iterator
from typing import Any

from srum_jax.families import registry
from srum_jax.overrides import SettingGroup, settings_of
from srum_jax.training.experiment import Experiment
from tools.build_docs import markdown

_HEAD = """# All settings

What an experiment is made of, and what `--set NAME=VALUE` of `srum_jax.train` replaces. Names, defaults and remarks are
taken from the dataclasses in the source. `python -m srum_jax.train --help --experiment=NAME` prints the values of one
experiment. The settings of other commands stand on their pages."""


def settings_page() -> str:
    """The page as Markdown."""
    whole = settings_of(Experiment(""))
    parts = [_HEAD, "## The run itself", _table(whole)]
    for group in whole.groups:
        parts += [f"## {group.name}"]
        if group.name == "objective":
            parts += ["One of these, chosen by the experiment's file."]
            for kind in typing.get_args(typing.get_type_hints(Experiment)["objective"]):
                parts += [f"### {kind.__name__}", *_sections(_named(kind(), "objective"))]
        else:
            parts += _sections(group)
    parts += ["## rows", "Capacities of a row, and how pictures are brought to size; a family has its own."]
    for name in registry.NAMES:
        parts += [f"### rows of {name}", *_sections(_named(registry.family(name).rows(), "rows"))]
    return "\n\n".join(parts) + "\n"


def _named(config: Any, name: str) -> SettingGroup:
    """A group's settings with the names that they have within an experiment."""
    return next(group for group in settings_of(Experiment("", **{name: config})).groups if group.name == name)


def _sections(group: SettingGroup) -> Iterator[str]:
    if group.comment:
        yield f"{markdown.plain(group.comment[0].upper() + group.comment[1:])}."
    if group.absent:
        yield f"Absent unless something in it is set; `--set {group.name}=none` removes it."
    if group.settings:
        yield _table(group)
    for inside in group.groups:
        yield f"**{inside.name}**"
        yield from _sections(inside)


def _table(group: SettingGroup) -> str:
    return markdown.table(("setting", "default", "meaning"), [
        (markdown.code(setting.name), markdown.code(setting.value), markdown.plain(setting.comment))
        for setting in group.settings])
