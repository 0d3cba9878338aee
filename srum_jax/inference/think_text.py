"""Taking apart what a model wrote in think mode."""

import re

from srum_jax.inference.templates import THINK_END, THINK_START


def _tolerant(tag: str) -> re.Pattern[str]:
    # Word-level tokenizers give a tag back with spaces between its parts.
    return re.compile(r"\s*".join(map(re.escape, tag)), re.IGNORECASE)


_START, _END = _tolerant(THINK_START), _tolerant(THINK_END)


def split_thought(text: str) -> tuple[str | None, str]:
    """The thought, and what follows its last closing tag, both stripped.

    Without a closing tag there is no thought: None, and the whole text.
    """
    ends = list(_END.finditer(text))
    if not ends:
        return None, text.strip()
    thought = text[: ends[-1].start()]
    start = _START.search(thought)
    return (thought[start.end() :] if start else thought).strip(), text[ends[-1].end() :].strip()
