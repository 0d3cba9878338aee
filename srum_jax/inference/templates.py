"""Instructions to the model, as text files that a user can replace, and taking apart what it wrote in think mode."""

import hashlib
import importlib.resources
import re
import string
from collections.abc import Mapping

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.storage.reading import is_hidden, read_text

# Name of each template and the placeholders that it must contain; it may contain no other.
_PLACEHOLDERS: Mapping[str, frozenset[str]] = {
    "think_generation": frozenset({"think_start", "think_end"}),
    "think_understanding": frozenset({"think_start", "think_end"}),
}
THINK_START, THINK_END = "<think>", "</think>"
_VALUES = {"think_start": THINK_START, "think_end": THINK_END}


def _tolerant(tag: str) -> re.Pattern[str]:
    # Word-level tokenizers give a tag back with spaces between its parts.
    return re.compile(r"\s*".join(map(re.escape, tag)), re.IGNORECASE)


_START, _END = _tolerant(THINK_START), _tolerant(THINK_END)


class Templates:
    """The texts, with their placeholders filled in."""

    def __init__(self, texts: Mapping[str, str], sources: Mapping[str, str]):
        """Checks the texts.

        Args:
          texts: by name.
          sources: where each was read, for messages.

        Raises:
          BadInput: naming the file and the placeholder that is missing or unknown.
        """
        self._raw = dict(texts)
        self._filled = {name: _fill(text, _PLACEHOLDERS[name], sources[name]) for name, text in texts.items()}

    @classmethod
    def read(cls, directory: epath.PathLike | None = None) -> "Templates":
        """Reads NAME.txt for every name; files that the directory lacks are those of this package.

        Args:
          directory: of the user's own files; None for the shipped ones.

        Raises:
          BadInput: if the directory does not exist or holds none of the files, or a file is not
            usable. TextFileError: it is not UTF-8.
        """
        texts, sources = {}, {}
        own = None if directory is None else epath.Path(directory)
        if own is not None:
            known = [f"{name}.txt" for name in _PLACEHOLDERS]
            if not own.is_dir():
                raise BadInput(f"{own}: expected a directory with templates ({', '.join(known)}), found none.")
            unknown = sorted(path.name for path in own.iterdir() if path.name.endswith(".txt")
                             and path.name not in known and not is_hidden(path.name))
            if unknown or not any((own / name).exists() for name in known):
                raise BadInput(f"{own}: expected templates named {', '.join(known)}; found "
                                    f"{', '.join(unknown) or 'none of them'}.")
        for name in _PLACEHOLDERS:
            path = None if own is None else own / f"{name}.txt"
            if path is None or not path.exists():
                path = epath.Path(str(importlib.resources.files(__package__) / "template_files" / f"{name}.txt"))
            texts[name] = read_text(path).strip()
            sources[name] = str(path)
        return cls(texts, sources)

    @property
    def think_generation(self) -> str:
        """Asks for a plan before the image."""
        return self._filled["think_generation"]

    @property
    def think_understanding(self) -> str:
        """Asks for reasoning before the answer."""
        return self._filled["think_understanding"]

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each text as it is given to the model, hexadecimal, by name."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(self._filled.items())}


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


def _fill(text: str, placeholders: frozenset[str], source: str) -> str:
    template = string.Template(text)
    if not text:
        raise BadInput(f"{source}: expected instructions to the model, found an empty file.")
    if not template.is_valid():
        raise BadInput(f"{source}: a lone dollar sign; write $$ for a dollar sign, or one of "
                            f"{_listed(placeholders)}.")
    found = set(template.get_identifiers())
    if found != placeholders:
        problem = f"unknown {_listed(found - placeholders)}" if found - placeholders else (
            f"missing {_listed(placeholders - found)}")
        raise BadInput(f"{source}: placeholders: expected exactly {_listed(placeholders)}, found "
                            f"{_listed(found) or 'none'} ({problem}).")
    return template.substitute(_VALUES)


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names))
