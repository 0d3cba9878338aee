"""One process of a study: trains and examines models, one after the other.

  python -m experiments._tiny_study.worker STUDY TASKS

STUDY: the folder of a study that was begun. TASKS: JSON, a list of [kind, arguments] with a kind of `tasks.py`.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from etils import epath

from experiments._tiny_study.exam import Exam
from experiments._tiny_study.steps import Study, StudyError
from experiments._tiny_study.tasks import Examination, Training, from_json


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    out, tasks = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one sends SIGTERM
    study = Study.read(epath.Path(out))
    try:
        for task in from_json(tasks):
            with _labelled(task.label):
                _run(study, task)
    except (StudyError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(study: Study, task: Training | Examination) -> None:
    match task:
        case Training():
            study.model(task.variant, task.seed, epath.Path(task.records), task.start, task.name)
        case Examination():
            Exam(study).take(task.name, task.checkpoints)


@contextlib.contextmanager
def _labelled(label: str) -> Iterator[None]:
    """Lines of several processes share one terminal: each says what it is about."""
    with contextlib.redirect_stdout(_LabelledLines(sys.stdout, label)):
        yield


class _LabelledLines:
    """Writes whole lines with a label before each."""

    def __init__(self, stream: TextIO, label: str):
        self._stream, self._label, self._rest = stream, label, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._stream.write("".join(f"[{self._label}] {line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


if __name__ == "__main__":
    sys.exit(main())
