"""Texts of the program's own as Markdown."""

from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    """A text of the source, also within a table's cell: shown as it is written, with code where it has backquotes."""
    words, marks = " ".join(text.split()).split("`"), "\\*_[]|#~"
    if len(words) % 2 == 0:  # one that has no partner
        words[-2:] = ["`".join(words[-2:])]
    return "".join(code(part) if number % 2 else _entities(part, marks + "`") for number, part in enumerate(words))


def code(text: str) -> str:
    """A short piece of code, also within a table's cell; it may be broken behind a comma."""
    return f"<code>{_entities(text, '|`*_').replace(',', ',<wbr>')}</code>" if text else ""


def _entities(text: str, marks: str) -> str:
    return "".join(f"&#{ord(sign)};" if sign in "&<" or sign in marks else sign for sign in text)


def block(text: str, language: str = "") -> str:
    """Lines of code; they may hold fences themselves."""
    return f"``````{language}\n{text.rstrip()}\n``````"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
