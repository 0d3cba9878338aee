"""The HTML page of a run as a parser reads it, and runs to make one of."""

import html.parser
import json

import numpy as np

from tools.make_rewards.__main__ import main

HOSTILE = ("<img src=x onerror=alert(1)></script ><script >alert(2)</script><!-- \u2028\u2029 & \" ' \U0001f600 "
           "{{style}}")


def call(kind, attempt, text):
    return {"kind": kind, "attempt": attempt, "text": text, "finish_reason": "stop", "num_tokens": 1}


class Page(html.parser.HTMLParser):
    """The data of a page, as an HTML parser finds it."""

    def __init__(self, path):
        super().__init__()
        self.texts, self.tags, self._id = {}, [], None
        self.feed(path.read_text("utf-8"))
        self.rows = [json.loads(self.texts[f"row-{i}"]) for i in range(len(self.texts)) if f"row-{i}" in self.texts]
        self.summary = json.loads(self.texts["summary-data"])
        self.by_id = {row["id"]: row for row in self.rows}

    def more(self, number):
        return json.loads(self.texts[f"more-{number}"])

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._id = dict(attributes).get("id") if tag == "script" else None

    def handle_data(self, data):
        if self._id is not None:
            self.texts[self._id] = self.texts.get(self._id, "") + data

    def handle_endtag(self, tag):
        self._id = None


def report(folder, out, *options):
    assert main(["report", str(folder), "--out", str(out), "--pixels-per-token", "8", *options]) == 0
    return Page(out / "index.html")


def judged(out, scores):
    assert main(["segment", "--out", str(out), "--provider", "components"]) == 0
    assert main(["judge", "--out", str(out), "--judge", scores]) == 0
    return out


def change(folder, stage, record_id, **fields):
    """Replaces fields of a line that a stage has written."""
    for chunk in folder.glob(f"{stage}/chunks/*/*.jsonl"):
        lines = [json.loads(line) for line in chunk.read_bytes().splitlines()]
        chunk.write_text("".join(json.dumps(line | (fields if line["record_id"] == record_id else {})) + "\n"
                                 for line in lines))


def decode(encoded):
    """The inverse of `encode`, as the page does it."""
    rows = [[encoded["values"][place] for length, place in zip(runs[::2], runs[1::2], strict=True)
             for _ in range(length)] for count, *runs in encoded["rows"] for _ in range(count)]
    return np.asarray(rows, np.float32)
