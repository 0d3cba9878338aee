"""Texts with placeholders, which users may replace by their own."""

import string
from collections.abc import Set

from srum_jax.errors import BadInput


def read_template(text: str, where: str, required: Set[str], optional: Set[str] = frozenset()) -> string.Template:
    """A text with placeholders such as $prompt.

    Args:
      text: as it was read.
      where: that was, for messages.
      required: names of the placeholders that it must have.
      optional: of those that it may have besides.

    Raises:
      BadInput: it has others, or lacks one; or it has a dollar sign that is none of a placeholder.
    """
    template = string.Template(text)
    if not template.is_valid():
        raise BadInput(f"{where}: a lone dollar sign; write $$ for a dollar sign, or one of "
                       f"{_listed(required | optional)}.")
    found = set(template.get_identifiers())
    unknown, missing = found - required - optional, required - found
    if unknown or missing:
        besides = f" and possibly {_listed(optional)}" if optional else ""
        problem = f"unknown {_listed(unknown)}" if unknown else f"missing {_listed(missing)}"
        raise BadInput(f"{where}: placeholders: expected {_listed(required)}{besides}, found "
                       f"{_listed(found) or 'none'} ({problem}).")
    return template


def _listed(names: Set[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names))
