"""A page for each command, from its parser."""

import argparse
import importlib
import pathlib
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence

from tools.build_docs import markdown

_FOLDERS = ("srum_jax", "tools", "experiments", "benchmarks")


class _Parsed(Exception):
    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser


def command_modules(root: pathlib.Path) -> list[str]:
    """What answers `python -m MODULE` in a checkout, by the files that are there."""
    found = []
    for folder in _FOLDERS:
        for path in [*sorted((root / folder).glob("*.py")), *sorted((root / folder).glob("*/__main__.py"))]:
            parts = path.relative_to(root).with_suffix("").parts
            if re.search(r"^def main\(", path.read_text(), re.MULTILINE) and not path.name.startswith("_argument"):
                found.append(".".join(parts[:-1] if parts[-1] == "__main__" else parts))
    return found


def installed_names(setup: pathlib.Path, modules: Sequence[str]) -> dict[str, str]:
    """The names under which `pip install` puts commands onto the path, by their modules.

    Args:
      setup: setup.py, whose entries name a command's `main`, or the function of `console_scripts` that is called as it.
      modules: of all commands.
    """
    entries = re.findall(r'"([\w-]+) = ([\w.]+):(\w+)"', setup.read_text())
    return {module: name for name, file, function in entries for module in modules
            if module == file.removesuffix(".__main__") or (function != "main" and module.endswith(f".{function}"))}


def parser_of(main: Callable) -> argparse.ArgumentParser:
    """The parser that a command reads its arguments with; it is stopped where it would read them."""

    def stop(parser, *_args, **_named):
        raise _Parsed(parser)

    read = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = stop
    try:
        main([])
    except _Parsed as found:
        return found.parser
    finally:
        argparse.ArgumentParser.parse_args = read
    raise ValueError(f"{main.__module__}: expected main to read its arguments by ArgumentParser.parse_args.")


def command_page(module: str, name: str | None) -> str:
    """A command's page as Markdown.

    Args:
      module: as behind `python -m`.
      name: of the same command where it is installed.
    """
    spec = importlib.util.find_spec(module)
    code = importlib.import_module(f"{module}.__main__" if spec.submodule_search_locations is not None else module)
    parser = parser_of(code.main)
    parts = [f"# {module}", *_prose(parser.description)]
    parts += [f"Installed as `{name}`."] if name else []
    parts += [*_body(parser, "##"), *_epilog(parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, inside in _subcommands(action).items():
                parts += [f"## {command}", *_prose(inside.description), *_body(inside, "###")]
                parts += _epilog(inside) if inside.epilog != parser.epilog else []
    return "\n\n".join(parts) + "\n"


def _subcommands(action: argparse._SubParsersAction) -> Mapping[str, argparse.ArgumentParser]:
    return action.choices


def _prose(text: str | None) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text or ""):
        if paragraph.strip():
            yield markdown.block(paragraph) if re.search(r"^ ", paragraph, re.MULTILINE) else markdown.plain(paragraph)


def _epilog(parser: argparse.ArgumentParser) -> Iterator[str]:
    if parser.epilog:
        yield markdown.block(parser.epilog.strip("\n"), "text")


def _body(parser: argparse.ArgumentParser, level: str) -> Iterator[str]:
    yield markdown.block(_usage(parser), "text")
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        rows = [_row(action, formatter) for action in group._group_actions
                if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)]
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                rows = [(f"`{choice.dest}`", markdown.plain(choice.help or "")) for choice in action._choices_actions]
        if rows:
            yield f"{level} {_title(group.title)}"
            yield markdown.table(("argument", "meaning"), rows)
        if group.description:
            yield markdown.block(group.description, "text")


def _usage(parser: argparse.ArgumentParser) -> str:
    """In lines of full length; an option and its value stay on one."""
    words = " ".join(parser.format_usage().removeprefix("usage: ").split())
    kept = re.sub(r"(--[\w-]+) (?![\[(|-])", "\\1\0", words)
    return textwrap.fill(kept, 84, subsequent_indent="    ", break_on_hyphens=False,
                         break_long_words=False).replace("\0", " ")


def _title(title: str | None) -> str:
    return {"positional arguments": "Arguments", "options": "Options"}.get(title or "", (title or "").capitalize())


def _row(action: argparse.Action, formatter: argparse.HelpFormatter) -> tuple[str, str]:
    metavar = formatter._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
    if action.option_strings:
        shown = [markdown.code(f"{option} {metavar}".strip()) for option in action.option_strings]
    else:
        shown = [markdown.code(metavar or action.dest)]
    text = markdown.plain(formatter._expand_help(action)) if action.help else ""
    choices = " or ".join(map(str, action.choices)) if action.choices and action.metavar else ""
    return ", ".join(shown), "; ".join(filter(None, (text, markdown.plain(choices), "required" * action.required)))
