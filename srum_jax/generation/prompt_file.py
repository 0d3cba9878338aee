"""Reading prompt files. What is wrong with a row is told with its line, and does not spoil the other rows."""

import csv
import dataclasses
import io
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.generation.prompt_formats import CUSTOM, FORMATS, PLAIN, PromptFormat, recognise
from srum_jax.generation.prompts import IdError, Prompt
from srum_jax.storage.reading import read_text

DUPLICATE_PROMPT = "duplicate_prompt"  # left out because it was asked for, not because it cannot be used
_LOGGER = logging.getLogger(__name__)
_TABLES = {".csv": ",;", ".tsv": "\t"}  # what may lie between cells
_JSON = re.compile(r"\s*(?:\[\s*)?(?:\{\s*[\"}]|\[\s*\")")  # how rows or a list of them begin
_PROMPTS = {form.prompt for form in FORMATS.values() if not form.plain_text}
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that is left out."""

    index: int
    line: int
    reason: str  # bad_prompt, duplicate_id, ...: counted by this
    detail: str  # field, expected, found, what to do
    source_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of `rejects/`."""
        return {"index": self.index, "source_id": self.source_id, "stage": "generate", "reason": self.reason,
                "line": self.line, "detail": self.detail}


@dataclasses.dataclass(frozen=True)
class PromptList:
    """Everything in a prompt file, by place in the input."""

    rows: list[Prompt]  # those that can be used
    bad: list[BadRow]
    source: str  # for messages

    def checked(self, check: Callable[[Prompt], "Prompt | BadRow"]) -> "PromptList":
        """Applies a further check to every prompt; it returns it, perhaps with more known of it, or what is wrong."""
        results = [check(prompt) for prompt in self.rows]
        bad = [*self.bad, *(result for result in results if isinstance(result, BadRow))]
        rows = [result for result in results if isinstance(result, Prompt)]
        return PromptList(rows, sorted(bad, key=lambda row: row.index), self.source)

    def deduplicated(self) -> "PromptList":
        """Keeps the first of rows that ask for the same thing: the same text, picture and size."""
        lines: dict[tuple, int] = {}

        def check(prompt: Prompt) -> Prompt | BadRow:
            first = lines.setdefault((prompt.prompt, prompt.image, prompt.height, prompt.width), prompt.line)
            if first == prompt.line:
                return prompt
            return BadRow(prompt.index, prompt.line, DUPLICATE_PROMPT, f"the same prompt as in line {first} (--dedupe)",
                          prompt.source_id)

        return self.checked(check)

    def limited(self, count: int | None) -> "PromptList":
        """The rows among the first `count` places."""
        if count is None:
            return self
        return PromptList([prompt for prompt in self.rows if prompt.index < count],
                          [row for row in self.bad if row.index < count], self.source)


def read_prompt_file(
    path: epath.PathLike, prompt_format: PromptFormat | None, set_name: str, num_candidates: int = 1
) -> PromptList:
    """Reads a file (spec: reward stage, section 3).

    Args:
      path: UTF-8; a JSON array, JSON lines, a table (`.csv`, `.tsv`) with names in its first line, or plain text, as
        the format says. Empty lines of JSON lines and tables are passed over.
      prompt_format: names the fields; None to recognise them: plain text in `.txt` and `.text`, unless it is JSON.
      set_name: of the list, the first part of every record's id.
      num_candidates: images per prompt; the longest id must fit.

    Raises:
      TextFileError: no such file, or not UTF-8.
      BadInput: no JSON, another format, or no row at all; names line and column.
    """
    path = epath.Path(path)
    text = read_text(path)
    if prompt_format is None and path.suffix.lower() in (".txt", ".text") and not _JSON.match(text):
        _check_no_table(text, path)
        prompt_format = FORMATS[PLAIN]
    if prompt_format is not None and prompt_format.plain_text:
        entries = _plain_entries(text)
    elif path.suffix.lower() in _TABLES:
        entries = _table_entries(text, path)
    elif not (prompt_format and prompt_format.lines_only) and text.lstrip().startswith("["):
        entries = _array_entries(text, path)
    else:
        entries = _line_entries(text)
    entries = list(entries)
    if prompt_format is None:
        name = next((recognise(entry) for _, entry in entries if isinstance(entry, dict)), CUSTOM)
        prompt_format = FORMATS[name]
        if name != CUSTOM:
            _LOGGER.warning("%s: read as --prompt-format %s, which its rows look like", path, name)
    _check_kind(entries, prompt_format, path)
    category = path.stem if prompt_format.category_is_file_name else None
    return _collect(entries, _RowReader(prompt_format, set_name, category, num_candidates), str(path))


def prompts_of_texts(texts: list[str], set_name: str, num_candidates: int = 1) -> PromptList:
    """As `read_prompt_file`, of texts that were given directly; "line" is the number of the text, from 1."""
    reader = _RowReader(PromptFormat("--prompt", None, plain_text=True), set_name, None, num_candidates)
    return _collect(enumerate(texts, start=1), reader, "--prompt")


def _check_no_table(text: str, path: epath.Path) -> None:
    head = text.lstrip("\n").partition("\n")[0]
    names = [name.strip('" ') for name in re.split(r"[,;\t]", head)]
    if len(names) > 1 and _PROMPTS & set(names):
        raise BadInput(f"{path}: its first line, {head!r}, is the head of a table; name the file .csv or .tsv, or take "
                       "every line for a prompt by --prompt-format plain.")


class _RowError(ValueError):
    """What is wrong with an entry, without its place."""


Entries = Iterator[tuple[int, Any]]  # line from 1; parsed value or _RowError


def _plain_entries(text: str) -> Entries:
    lines = text.rstrip("\n").split("\n") if text.strip("\n") else []
    yield from enumerate(lines, start=1)


def _table_entries(text: str, path: epath.Path) -> Entries:
    """Rows by the names in the first line; cells that are empty are absent."""
    head = text.lstrip("\n").partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=max(_TABLES[path.suffix.lower()], key=head.count), strict=True)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadInput(f"{path}:{rows.line_num}: expected a row of a table, found an error ({error}); "
                                  "correct the file.") from error
        if None in row:
            yield rows.line_num, _RowError(f"expected {len(rows.fieldnames)} cells, found {len(row[None])} more; put "
                                           'a text with commas into quotation marks: "a cat, a dog"')
            continue
        cells = {name: cell for name, cell in row.items() if cell}
        yield rows.line_num, cells | {name: int(cells[name]) for name in ("height", "width")
                                      if cells.get(name, "").isdecimal()}


def _check_kind(entries: Sequence[tuple[int, Any]], form: PromptFormat, path: epath.Path) -> None:
    """One cause is told once: a file of another kind, or with other names.

    Raises:
      BadInput: no row can be used, for the same reason.
    """
    if not entries or form.plain_text:
        return
    if all(isinstance(entry, _RowError) for _, entry in entries):
        raise BadInput(f"{path}:{entries[0][0]}: {entries[0][1]}, as all of the file. Expected JSON lines or a "
                              "JSON array; tables end in .csv or .tsv, and --prompt-format plain takes one prompt a "
                              "line.")
    rows = [entry for _, entry in entries if isinstance(entry, dict)]
    if rows and not any(form.prompt in row for row in rows):
        found = ", ".join(map(repr, list(rows[0])[:8])) or "no field"
        raise BadInput(f"{path}: expected prompts in the field {form.prompt!r}, found rows with {found}; see "
                       "--prompt-format, or name it: --fields prompt=NAME.")


def _line_entries(text: str) -> Entries:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            yield number, _RowError(f"expected JSON, found an error at column {error.colno} ({error.msg}); correct it")
        except (ValueError, RecursionError) as error:
            yield number, _RowError(f"expected JSON, found what cannot be read ({_short(error)})")


def _array_entries(text: str, path: epath.Path) -> Entries:
    """Goes through the array entry by entry, so that each one's line is known."""
    decoder = json.JSONDecoder()
    place, line, counted = _skip(text, text.index("[") + 1), 1, 0
    if text[place : place + 1] == "]":
        place, more = place + 1, False
    else:
        more = True
    while more:
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise _bad_array(path, text, error.pos, error.msg) from error
        except (ValueError, RecursionError) as error:
            raise _bad_array(path, text, place, _short(error)) from error
        yield line, value
        place = _skip(text, place)
        if text[place : place + 1] not in (",", "]") or place >= len(text):
            raise _bad_array(path, text, place, "expected ',' or ']'")
        more = text[place] == ","
        place = _skip(text, place + 1)
    if _skip(text, place) != len(text):
        raise _bad_array(path, text, _skip(text, place), "expected nothing behind the array")


def _skip(text: str, place: int) -> int:
    return _SPACE.match(text, place).end()


def _bad_array(path: epath.Path, text: str, place: int, problem: str) -> BadInput:
    line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
    return BadInput(f"{path}:{line}: expected a JSON array, found an error at column {column} ({problem}); "
                           "correct the file.")


class _RowReader:
    """Entry to prompt."""

    def __init__(self, prompt_format: PromptFormat, set_name: str, category: str | None, num_candidates: int):
        self._format, self._set, self._category = prompt_format, set_name, category
        self._last_candidate = num_candidates - 1

    def read(self, index: int, entry: Any) -> Prompt:
        """Raises _RowError."""
        form = self._format
        if isinstance(entry, _RowError):
            raise entry
        if form.plain_text:
            entry = {form.prompt: entry}
        if not isinstance(entry, dict):
            raise _RowError(f"expected a JSON object, found {_kind(entry)}")
        source_id = self.source_id(index, entry)
        tag = None if form.tag is None else _text_or_none(entry, form.tag)
        category = self._category if form.category is None else _text_or_none(entry, form.category)
        sizes = {}
        if form.sizes_and_images:
            sizes = {name: _pixels_or_none(entry, name) for name in ("height", "width")}
            if (sizes["height"] is None) != (sizes["width"] is None):
                raise _RowError(f"fields 'height', 'width': expected both or neither, found {sizes['height']} and "
                                f"{sizes['width']}")
            sizes["image"] = _text_or_none(entry, "image")
        prompt = Prompt(index, self._set, source_id, _prompt(entry, form.prompt), category,
                        () if tag is None else (tag,), **sizes)
        try:
            prompt.record_id(self._last_candidate)
        except IdError as error:
            raise _RowError(f"field '{form.id or 'id'}': {error}") from error
        return prompt

    def source_id(self, index: int, entry: Any) -> str:
        """Raises _RowError."""
        name = self._format.id
        if name is None or (name not in entry and not self._format.id_required):
            return str(index)
        if name not in entry:
            raise _RowError(f"field '{name}': expected an id, found no such field")
        value = entry[name]
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise _RowError(f"field '{name}': expected a whole number or a text, found {_kind(value)}")
        return str(value)


def _collect(entries: Iterable[tuple[int, Any]], reader: _RowReader, source: str) -> PromptList:
    rows, bad, lines_by_id = [], [], {}
    count = 0
    for index, (line, entry) in enumerate(entries):
        count += 1
        try:
            prompt = reader.read(index, entry)
        except _RowError as error:
            bad.append(BadRow(index, line, "bad_prompt", str(error)))
            continue
        if prompt.source_id in lines_by_id:
            detail = (f"id '{prompt.source_id}' is also that of line {lines_by_id[prompt.source_id]}; expected "
                      "different ids")
            bad.append(BadRow(index, line, "duplicate_id", detail, prompt.source_id))
            continue
        lines_by_id[prompt.source_id] = line
        rows.append(dataclasses.replace(prompt, line=line))
    if not count:
        raise BadInput(f"{source}: expected at least one prompt, found none.")
    return PromptList(rows, bad, source)


def _prompt(entry: dict[str, Any], name: str) -> str:
    if name not in entry:
        raise _RowError(f"field '{name}': expected the prompt, found no such field; see --prompt-format and --fields")
    value = entry[name]
    if not isinstance(value, str):
        raise _RowError(f"field '{name}': expected a text, found {_kind(value)}")
    if not value.strip():
        raise _RowError(f"field '{name}': expected a prompt, found an empty text")
    return _encodable(unicodedata.normalize("NFC", value), name)


def _text_or_none(entry: dict[str, Any], name: str) -> str | None:
    value = entry.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise _RowError(f"field '{name}': expected a text, found {_kind(value)}")
    if value is None or name == "image":  # names of files are not to be changed
        return None if value is None else _encodable(value, name)
    return _encodable(unicodedata.normalize("NFC", value), name)


def _encodable(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _RowError(f"field '{name}': expected Unicode text, found half of a surrogate pair at character "
                        f"{error.start + 1}") from error
    return text


def _pixels_or_none(entry: dict[str, Any], name: str) -> int | None:
    value = entry.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31):
        raise _RowError(f"field '{name}': expected a number of pixels, found {_kind(value)}")
    return value


def _short(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _kind(value: Any) -> str:
    text = json.dumps(value) if value is None or isinstance(value, int | float | str) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
