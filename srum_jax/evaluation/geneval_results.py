"""`results.jsonl` of GenEval's official scorer, as the replies of a judge."""

import json
import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.evaluation.entries import line_entries
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.storage.reading import why_absent

_FILE = re.compile(r"(\d+)/samples/(\d+)\.png$")


class OfficialResults:
    """Looks up the line of an image. An image without one gets an empty reply, which is a failure."""

    id: ClassVar[str] = "geneval-official"

    def __init__(self, path: epath.PathLike):
        """Reads and checks the file.

        Raises:
          BadInput: naming the line, the field, what was expected and what was found.
        """
        path = epath.Path(path)
        if not path.exists():
            raise BadInput(f"--judge results:{path}: {why_absent(path)}.")
        self._lines: dict[str, str] = {}
        for number, entry in enumerate(line_entries(path.name, path.read_bytes(), {"filename": str, "prompt": str}),
                                       start=1):
            found = _FILE.search(entry["filename"].replace("\\", "/"))
            if found is None:
                raise BadInput(f"{path}:{number}: field 'filename': expected .../<index>/samples/<number>.png, found "
                               f"{entry['filename']!r}.")
            if not isinstance(entry.get("correct"), bool):
                raise BadInput(f"{path}:{number}: field 'correct': expected true or false, found "
                               f"{entry.get('correct')!r}.")
            subject = f"{int(found[1]):05d}/{int(found[2])}"
            if subject in self._lines:
                raise BadInput(f"{path}:{number}: field 'filename': a result of {found[0]} is there already.")
            kept = {name: entry[name] for name in ("prompt", "correct", "reason") if name in entry}
            self._lines[subject] = json.dumps(kept, ensure_ascii=False)

    def answer(self, calls: Sequence[tuple[np.ndarray, Call]]) -> list[Reply]:
        """See `judges.protocol.Judge`."""
        return [Reply(self._lines.get(call.subject_id, ""), 0, True) for _, call in calls]
