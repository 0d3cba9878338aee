"""One process of a study: trains and examines models, one after the other.

  python -m experiments._tiny_study.worker STUDY TASKS

STUDY: the folder of a study that was begun. TASKS: a JSON file, a list of [kind, arguments] with a kind of `tasks.py`.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from etils import epath

from experiments._tiny_study.confirmation import Confirmation
from experiments._tiny_study.errors import SettingsError, StudyError
from experiments._tiny_study.exam import Exam
from experiments._tiny_study.steps import Study
from experiments._tiny_study.tasks import Examination, SecondExamination, Task, Training, from_json


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    out, tasks = sys.argv[1:] if argv is None else argv
    study = Study.read(epath.Path(out))
    for task in from_json(epath.Path(tasks).read_text()):
        with _labelled(task.label):
            try:
                _run(study, task)
            except SettingsError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            except (StudyError, OSError) as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
    return 0


def _run(study: Study, task: Task) -> None:
    match task:
        case Training():
            study.model(task.variant, task.seed, epath.Path(task.records), task.start, task.name)
        case Examination():
            Exam(study).take(task.name, task.checkpoints)
        case SecondExamination():
            Confirmation(study).take(task.name, task.seed, task.checkpoint)


@contextlib.contextmanager
def _labelled(label: str) -> Iterator[None]:
    """Lines of several processes share one terminal: each says what it is about. There are no progress bars."""
    out, err = _LabelledLines(sys.stdout, label), _LabelledLines(sys.stderr, label)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            out.end()
            err.end()


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

    def isatty(self) -> bool:
        return False

    def end(self) -> None:
        """Writes what no line break followed."""
        if self._rest:
            self.write("\n")


if __name__ == "__main__":
    sys.exit(main())
