"""Replies as a Markdown table: asked labels as heads, a row for each region or one for the image."""

import re

from srum_jax.rewards.judgement.reply_blocks import Block, is_number_label, label_of, number_of

_MARKS = re.compile(r"[*_`]")
_RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_BAR = re.compile(r"(?<!\\)\|")


def table_blocks(content: str) -> tuple[list[Block], str]:
    """The rows of all tables whose heads hold asked labels, and the text without them: of their other columns, a line
    for each cell, as what "Max" says of scores holds for a table as for anything else.

    A row with another number of cells than its table has heads is no row, and has a block without number or values.
    """
    blocks: list[Block] = []
    lines, rest, place = content.split("\n"), [], 0
    while place < len(lines):
        heads = [_MARKS.sub("", head) for head in _cells(lines[place])]
        labels = [label_of(head) for head in heads]
        rule = lines[place + 1] if place + 1 < len(lines) else ""
        if not any(labels) or "|" not in rule or not _RULE.match(rule):
            rest.append(lines[place])
            place += 1
            continue
        place += 2
        while place < len(lines) and (cells := _cells(lines[place])):
            blocks.append(_row(heads, labels, cells))
            rest += [f"{head}: {cell}" for head, label, cell in zip(heads, labels, cells, strict=False)
                     if label is None and not is_number_label(head)]
            place += 1
    return blocks, "\n".join(rest)


def _row(heads: list[str], labels: list[str | None], cells: list[str]) -> Block:
    if len(cells) != len(labels):
        return Block(None, ())
    values = tuple((label, cell) for label, cell in zip(labels, cells, strict=True) if label is not None)
    return Block(number_of([(head, _MARKS.sub("", cell)) for head, cell in zip(heads, cells, strict=True)]), values)


def _cells(line: str) -> list[str]:
    """What stands between the bars; nothing where the line has none."""
    if not _BAR.search(line):
        return []
    line = line.strip()
    inner = line[line.startswith("|") : -1 if line.endswith("|") and not line.endswith("\\|") else None]
    return [cell.replace("\\|", "|").strip() for cell in _BAR.split(inner)]
