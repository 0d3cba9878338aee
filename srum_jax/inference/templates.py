"""Instructions to the model, as text files that a user can replace, and taking apart what it wrote in think mode."""

import dataclasses
import hashlib
import importlib.resources
import re

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.storage.reading import is_hidden, read_text
from srum_jax.storage.text_template import read_template

THINK_START, THINK_END = "<think>", "</think>"
_VALUES = {"think_start": THINK_START, "think_end": THINK_END}  # every template has these placeholders, and no other


def _tolerant(tag: str) -> re.Pattern[str]:
    # Word-level tokenizers give a tag back with spaces between its parts.
    return re.compile(r"\s*".join(map(re.escape, tag)), re.IGNORECASE)


_START, _END = _tolerant(THINK_START), _tolerant(THINK_END)


@dataclasses.dataclass(frozen=True)
class Templates:
    """The texts, with their placeholders filled in."""

    think_generation: str  # asks for a plan before the image
    think_understanding: str  # asks for reasoning before the answer

    @classmethod
    def read(cls, directory: epath.PathLike | None = None) -> "Templates":
        """Reads NAME.txt for every name; files that the directory lacks are those of this package.

        Args:
          directory: of the user's own files; None for the shipped ones.

        Raises:
          BadInput: if the directory does not exist or holds none of the files, or a file is not
            usable. TextFileError: it is not UTF-8.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        own = None if directory is None else epath.Path(directory)
        if own is not None:
            known = [f"{name}.txt" for name in names]
            if not own.is_dir():
                raise BadInput(f"{own}: expected a directory with templates ({', '.join(known)}), found none.")
            unknown = sorted(path.name for path in own.iterdir() if path.name.endswith(".txt")
                             and path.name not in known and not is_hidden(path.name))
            if unknown or not any((own / name).exists() for name in known):
                raise BadInput(f"{own}: expected templates named {', '.join(known)}; found "
                                    f"{', '.join(unknown) or 'none of them'}.")
        texts = {}
        for name in names:
            path = None if own is None else own / f"{name}.txt"
            if path is None or not path.exists():
                path = epath.Path(str(importlib.resources.files(__package__) / "template_files" / f"{name}.txt"))
            text = read_text(path).strip()
            if not text:
                raise BadInput(f"{path}: expected instructions to the model, found an empty file.")
            texts[name] = read_template(text, str(path), _VALUES.keys()).substitute(_VALUES)
        return cls(**texts)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each text as it is given to the model, hexadecimal, by name."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in vars(self).items()}


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
