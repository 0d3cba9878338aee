"""Typed reading of the JSON files that describe a model; every complaint names the file and the field."""

import dataclasses
import json
import logging
import math
import re
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.storage.reading import TextFileError, read_text

_LOGGER = logging.getLogger(__name__)
_QUOTED = r'("(?:[^"\\]|\\.)*")'
_COMMENT = re.compile(_QUOTED + r"|//[^\n]*|/\*.*?\*/", re.DOTALL)
_COMMA = re.compile(_QUOTED + r"|,(?=\s*[}\]])", re.DOTALL)
_LARGEST = 1e30  # of a number in a configuration; far above any that makes sense, and exact to compare with


class ConfigError(BadInput):
    """A model configuration file is missing, unreadable, or describes something that is not supported."""


class Fields:
    """The fields of one JSON object. What is absent takes its default, and without one is refused."""

    def __init__(self, values: Any, file: str):
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: expected a JSON object, found {type(values).__name__}.")
        self.values, self.file = values, file

    def _get(self, name: str, default: Any) -> Any:
        value = self.values.get(name, default)
        if value is None:
            raise ConfigError(f"{self.file}: field '{name}' is missing.")
        return value

    def check(self, name: str, condition: bool, expected: str, found: Any) -> None:
        """Refuses a field unless the condition holds."""
        if not condition:
            raise ConfigError(f"{self.file}: field '{name}': expected {expected}, found {found!r}.")

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self._get(name, default)
        self.check(name, type(value) is int, "an integer", value)
        return value

    def positive(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.integer(name, default)
        self.check(name, value >= 1, "a positive integer", value)
        return value

    def positives(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers of at least 1, not empty."""
        value = self._get(name, None)
        good = isinstance(value, list) and bool(value) and all(isinstance(v, int) and v > 0 for v in value)
        self.check(name, good, "a list of positive integers", value)
        return tuple(value)

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(name, default)
        self.check(name, isinstance(value, int | float) and not isinstance(value, bool), "a number", value)
        self.check(name, abs(value) <= _LARGEST and math.isfinite(value), "a finite number", value)
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        self.check(name, isinstance(value, bool), "true or false", value)
        return value

    def divides(self, name: str, part: int, whole_name: str, whole: int) -> None:
        """Refuses `part` (field `name`) unless it divides `whole` (field `whole_name`)."""
        self.check(name, whole % part == 0, f"a divisor of {whole_name} {whole}", part)

    def unsupported(self, **supported: Any) -> None:
        """Refuses fields that are present with another value than the one that this code computes."""
        for name, only in supported.items():
            if name in self.values and self.values[name] != only:
                raise ConfigError(f"{self.file}: field '{name}': only {only!r} is supported, found "
                                  f"{self.values[name]!r}.")


def check_tokens(tokens: Any, vocab_size: int, file: str) -> None:
    """Refuses ids of control tokens, a dataclass, that are outside of the vocabulary."""
    for name, token in dataclasses.asdict(tokens).items():
        if not 0 <= token < vocab_size:
            raise ConfigError(f"{file}: token '{name}': expected an id below vocab_size {vocab_size}, found {token}; "
                              "copy the files of one and the same model.")


def read_json(path: epath.Path) -> Any:
    """Parses one JSON file; a missing or broken file is a ConfigError that names it."""
    try:
        return json.loads(read_text(path))
    except TextFileError as error:
        raise ConfigError(f"{error} Copy it again from the published checkpoint.") from error
    except (ValueError, RecursionError) as error:  # broken text, an integer of thousands of digits, deep nesting
        raise ConfigError(f"{path}: not valid JSON ({error}); copy it again from the published checkpoint.") from error


def read_optional(path: epath.Path) -> Any | None:
    """Parses one JSON file, which may be absent: None. One that holds nothing but `null` is not."""
    if not path.exists():
        return None
    values = read_json(path)
    if values is None:
        raise ConfigError(f"{path}: expected a JSON object, found null; copy it again from the published checkpoint.")
    return values


def read_leniently(path: epath.Path) -> dict[str, Any]:
    """Parses a JSON object that may hold comments, and commas behind the last item; an absent file is empty.

    Where it is still none, it counts as empty too, with a warning.
    """
    if not path.exists():
        return {}
    try:
        values = read_json(path)
    except ConfigError as error:
        try:
            values = json.loads(_COMMA.sub(_kept, _COMMENT.sub(_kept, read_text(path))))
        except (ValueError, RecursionError):
            _LOGGER.warning("%s Its defaults are used instead.", error)
            return {}
        _LOGGER.warning("%s: not strict JSON; read without its comments and surplus commas.", path)
    if not isinstance(values, dict):
        _LOGGER.warning("%s: expected a JSON object, found %s. Its defaults are used instead.", path,
                        type(values).__name__)
        return {}
    return values


def _kept(match: re.Match[str]) -> str:
    """What stands in quotes."""
    return match.group(1) or ""
