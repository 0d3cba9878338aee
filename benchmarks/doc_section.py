"""Putting figures into a page of the documentation, so that none is copied by hand."""

import shlex
from collections.abc import Sequence

from etils import epath

from srum_jax.storage.atomic_file import write_text

_LOCAL = ("--docs", "--json", "--cache", "--nice")  # say nothing about the figures


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command as a reader would type it, without what only says where its output goes."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument.partition("=")[0] not in _LOCAL:
            kept.append(argument)
        skip = not skip and argument in _LOCAL
    return shlex.join(["python", "-m", module, *kept])


def replace_section(page: epath.PathLike, name: str, text: str) -> None:
    """Replaces what lies between the two markers of a section.

    Args:
      page: a Markdown file with the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
      name: of the section.
      text: Markdown.

    Raises:
      ValueError: the page has no such section.
    """
    page = epath.Path(page)
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    content = page.read_text()
    if content.count(begin) != 1 or content.count(end) != 1 or content.index(begin) > content.index(end):
        raise ValueError(f"{page}: expected one section between {begin.strip()!r} and {end!r}, found none or several.")
    before, rest = content.split(begin)
    after = rest.split(end)[1]
    write_text(page, f"{before}{begin}\n{text.strip()}\n\n{end}{after}")
