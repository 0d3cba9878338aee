"""Writes the page, one record at a time.

Every record has elements of its own that the browser keeps as text, and that the page's script reads when needed:

    <script type="application/json" id="row-7">       read when the page opens
    <script type="application/json" id="more-7">      read when the image is looked at
    <script type="text/plain" id="picture-7">         data URL of the thumbnail, used when its card comes into view

Nothing from the run can become markup or program: JSON is written without "<" and beyond ASCII only as escapes, the
script inserts texts as texts, and the page's security policy lets no other script run and no address be asked.
"""

import base64
import functools
import hashlib
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any, BinaryIO

from srum_jax.errors import BadInput

SCRIPTS = ("elements.js", "data.js", "drawing.js", "summary.js", "selection.js", "cards.js", "detail.js", "main.js")
_RECORDS, _SUMMARY = "<!-- records -->", "<!-- summary -->"


class PageWriter:
    """Writes head, records and summary, in this order."""

    def __init__(
        self, file: BinaryIO, max_bytes: int, assets: Sequence[Traversable] = (), scripts: Sequence[str] = SCRIPTS
    ):
        """Writes what comes before the records.

        Args:
          file: empty, binary.
          max_bytes: of the whole page.
          assets: folders with `page.html`, `page.css` and the scripts; what one lacks is taken from the next, and in
            the end from those of the reward report.
          scripts: their names, in order.
        """
        self._file, self._max_bytes = file, max_bytes
        self.num_bytes = self.num_records = 0
        before, rest = _shell(tuple(assets), tuple(scripts)).split(_RECORDS)
        self._between, self._after = rest.split(_SUMMARY)
        self._write(before)

    def record(self, row: Mapping[str, Any], more: Mapping[str, Any], picture: str | None) -> None:
        """Appends a record.

        Raises:
          BadInput: the page grows too large.
        """
        number = self.num_records
        self._write(_element(f"row-{number}", row) + _element(f"more-{number}", more))
        if picture is not None:
            self._write(f'<script type="text/plain" id="picture-{number}">{picture}</script>\n')
        self.num_records += 1

    def close(self, summary: Mapping[str, Any]) -> None:
        """Writes the summary and what comes after it."""
        self._write(self._between + _element("summary-data", {**summary, "records": self.num_records}) + self._after)

    def _write(self, text: str) -> None:
        data = text.encode("utf-8")
        self.num_bytes += len(data)
        if self.num_bytes > self._max_bytes:
            raise BadInput(
                f"--max-megabytes: the page would be larger than {self._max_bytes // 2**20} MiB after "
                f"{self.num_records} candidates, and slow to open. Show fewer (--sample N, --limit N), smaller "
                "pictures (--thumbnail-pixels 128, --thumbnail-quality 50) or shorter replies (--reply-characters "
                "500), or allow more.")
        self._file.write(data)


def inert_json(value: Any) -> str:
    """JSON that no HTML parser sees markup in.

    Raises:
      ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _element(name: str, value: Any) -> str:
    return f'<script type="application/json" id="{name}">{inert_json(value)}</script>\n'


@functools.cache
def _shell(assets: tuple[Traversable, ...], scripts: tuple[str, ...]) -> str:
    """The page without anything of a run."""
    folders = (*assets, importlib.resources.files(__package__) / "assets")

    def text_of(name: str) -> str:
        return next(folder / name for folder in folders if (folder / name).is_file()).read_text("utf-8")

    style = text_of("page.css")
    parts = "\n".join(map(text_of, scripts))
    script = f'"use strict";\n(() => {{\n{parts}\n}})();\n'
    policy = (f"default-src 'none'; script-src 'sha256-{_digest(script)}'; style-src 'sha256-{_digest(style)}'; "
              "img-src data: file: 'self'; base-uri 'none'; form-action 'none'")
    page = text_of("page.html")
    for mark, text in (("{{policy}}", policy), ("{{style}}", style), ("{{script}}", script)):
        before, after = page.split(mark)
        page = before + text + after
    return page


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
