"""Replies in JSON: one object for each region or for the image, alone, in a list, or under the numbers of regions."""

import json
import re
from typing import Any

from srum_jax.rewards.judgement.reply_blocks import Block, label_of, number_of, region_number

_DEPTH = 3  # of the objects that are looked at: {"answer": {"regions": [{...}]}}


class _Object(tuple):
    """The pairs of a JSON object in their order, names that come twice included."""


# Alone on its line, or behind a fence's mark or words and a colon: "Here is my answer: {".
_BEGIN = re.compile(r"[ \t]*(?:`{3,}\w*[ \t]*|[^\[\]{}\n]{0,200}[:\uff1a][ \t]*)?(?=[\[{])")
# Numbers stay text, so that the same rules hold for 0.5 and "0.5", and none is too long.
_DECODER = json.JSONDecoder(object_pairs_hook=_Object, parse_float=str, parse_int=str, parse_constant=str)


def json_blocks(content: str) -> tuple[list[Block], str]:
    """The blocks of all complete JSON values, one a line at most, and the text without these values."""
    blocks: list[Block] = []
    rest, place = [], 0
    while place < len(content):
        begin, found = _BEGIN.match(content, place), []
        if begin is not None:
            try:
                value, end = _DECODER.raw_decode(content, begin.end())
                found = _blocks_of(value, _DEPTH)
            except (ValueError, RecursionError):
                pass  # no JSON; others read it as lines
        if found:
            blocks += found
        else:
            end = content.find("\n", place) + 1 or len(content)
            rest.append(content[place:end])
        place = end
    return blocks, "".join(rest)


def _blocks_of(value: Any, depth: int, number: int | None = None) -> list[Block]:
    """The blocks in a value, which may stand under the number of a region."""
    if isinstance(value, _Object):
        pairs = [(name, entry if isinstance(entry, str) else "") for name, entry in value]
        labelled = tuple((label, text) for name, text in pairs if (label := label_of(name)) is not None)
        number = number_of(pairs) if number is None else number
        inner = [] if depth == 0 else [
            block for name, entry in value if not isinstance(entry, str)
            for block in _blocks_of(entry, depth - 1, region_number(name))
        ]
        return [Block(number, labelled), *inner] if labelled and (number is not None or not inner) else inner
    if isinstance(value, list) and depth > 0:
        return [block for entry in value for block in _blocks_of(entry, depth - 1)]
    return []
