"""Replies that were recorded: to score again, and for tests. Nothing is loaded and nobody is asked.

One JSON line a call, as `replies.jsonl` of an evaluation has them:

    {"benchmark": "wise", "item_id": "7", "image": 0, "call": "score", "attempt": 1, "text": "...",
     "finish_reason": "stop", "judge": {"id": "Qwen2.5-VL-72B-Instruct", "revision": "..."}}
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.storage.reading import numbered_lines

_FIELDS = {"benchmark": str, "item_id": str, "image": int, "call": str, "attempt": int, "text": str,
           "finish_reason": str}


class ReplayJudge:
    """The replies of a file, by item, image, call and attempt.

    Attributes:
      judge: who gave them: `id` and `revision`.
    """

    def __init__(self, path: epath.PathLike, benchmark: str):
        """Reads and checks the file.

        Args:
          path: of the file.
          benchmark: whose replies are wanted; lines of others are passed over.

        Raises:
          BadInput: naming the line, the field, what was expected and what was found.
        """
        self._path, self._replies = epath.Path(path), {}
        self.judge: dict[str, Any] | None = None
        for number, line in numbered_lines(self._path):
            where = f"{self._path}:{number}"
            try:
                entry = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{where}: not valid JSON ({error}).") from error
            for field, kind in _FIELDS.items():
                if not isinstance(entry, dict) or type(entry.get(field)) is not kind:
                    found = entry.get(field) if isinstance(entry, dict) else entry
                    raise BadInput(f"{where}: field '{field}': expected {kind.__name__}, found {found!r}.")
            if entry["benchmark"] != benchmark:
                continue
            key = f"{entry['item_id']}/{entry['image']}", entry["call"], entry["attempt"]
            if key in self._replies:
                raise BadInput(f"{where}: item {key[0]}, call {key[1]!r}, attempt {key[2]} occurs twice.")
            judge = entry.get("judge") or {"id": None, "revision": None}
            if self.judge is not None and judge != self.judge:
                raise BadInput(f"{where}: field 'judge': expected {self.judge}, as before, found {judge}; replies of "
                               "two judges are never mixed.")
            self.judge = judge
            self._replies[key] = Reply(entry["text"], 0, entry["finish_reason"] == "stop",
                                       entry["finish_reason"] != "non_finite")
        if self.judge is None:
            raise BadInput(f"{self._path}: expected recorded replies of benchmark {benchmark!r}, found none.")

    def answer(self, calls: Sequence[tuple[np.ndarray, Call]]) -> list[Reply]:
        """See `Judge`. Raises BadInput where a call was not recorded."""
        return [self._answer(call) for _, call in calls]

    def _answer(self, call: Call) -> Reply:
        reply = self._replies.get((call.subject_id, call.kind, call.attempt))
        if reply is None:
            raise BadInput(f"{self._path}: no reply to call {call.kind!r}, attempt {call.attempt}, of item "
                           f"{call.subject_id}; record it, or ask a judge.")
        return reply
