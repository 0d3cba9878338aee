"""Reading what a user gives, whatever system it comes from."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.storage.object_store import is_local, read_bytes


class TextFileError(BadInput):
    """A text file that cannot be read."""


def read_text(path: epath.PathLike) -> str:
    """A text file in UTF-8, without a mark of byte order; its lines end in a newline, whatever they ended in.

    Raises:
      TextFileError: no such file, or not UTF-8; names line and column.
    """
    try:
        data = read_bytes(epath.Path(path))
    except FileNotFoundError as error:
        raise TextFileError(f"{path}: {why_absent(path)}.") from error
    except OSError as error:
        raise TextFileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        raise TextFileError(f"{path}:{line}: expected UTF-8, found byte 0x{data[error.start]:02x} at column {column}; "
                            "convert the file.") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    before, zero, _ = text.partition("\0")
    if zero:
        line = before.count("\n") + 1
        raise TextFileError(f"{path}:{line}: expected UTF-8 text, found a zero byte, as in UTF-16 or in a file that "
                            "is no text; convert the file.")
    return text


def numbered_lines(path: epath.PathLike) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, without white space around them, and their numbers from 1; whatever they end in.

    A file of records is large: it is read as its lines are asked for, and each has its own errors.

    Raises:
      TextFileError: no such file, or it cannot be read.
    """
    try:
        with epath.Path(path).open("rb") as file:
            number = 0
            for piece in file:
                for line in piece.rstrip(b"\r\n").split(b"\r"):
                    number += 1
                    if line.strip():
                        yield number, line.strip()
    except FileNotFoundError as error:
        raise TextFileError(f"{path}: {why_absent(path)}.") from error
    except OSError as error:
        raise TextFileError(f"{path}: cannot be read ({error.strerror or error}).") from error


def json_lines(path: epath.PathLike) -> Iterator[tuple[int, Any]]:
    """The values of a file of JSON lines, and the numbers of their lines from 1; blank lines are passed over.

    Raises:
      TextFileError: no such file, or it cannot be read.
      BadInput: a line is no JSON; names it.
    """
    for number, line in numbered_lines(path):
        try:
            yield number, json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}:{number}: not valid JSON ({error}).") from error


def why_absent(path: epath.PathLike) -> str:
    """What is to be said of a path where nothing was found: of a link, where it leads."""
    local = pathlib.Path(os.fspath(path))
    if is_local(path) and local.is_symlink():
        return f"a link to {os.readlink(local)}, which is not there"
    return "no such file"


def is_hidden(name: str) -> bool:
    """Whether a file is of the system or of an editor that has been in its folder, such as `._x` or `.DS_Store`."""
    return name.startswith(".") or name.endswith("~")
