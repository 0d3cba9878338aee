"""Where metrics go: a line on the console, `metrics.jsonl`, TensorBoard, a progress bar on a terminal."""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator

from etils import epath
from tqdm import tqdm

from srum_jax.observability.tensorboard_events import new_events, scalars
from srum_jax.storage import object_store
from srum_jax.storage.growing_file import GrowingFile

METRICS_FILE = "metrics.jsonl"

_LOG = logging.getLogger(__name__)
# Between two writes into a bucket, where each is of the whole file. Before a checkpoint there is one in any case.
_SECONDS_BETWEEN_WRITES = 30.0

# What the console line shows; everything else is in the files.
_CONSOLE = (
    ("loss", "loss/total", "{:.5f}"),
    ("reward", "loss/reward", "{:.5f}"),
    ("reference", "loss/reference", "{:.5f}"),
    ("text", "loss/text", "{:.4f}"),
    ("R", "reward/map_mean", "{:.3f}"),
    ("|g|", "norm/gradient", "{:.3g}"),
    ("lr", "learning_rate", "{:.3g}"),
    ("tok/s", "speed/tokens_per_second", "{:.0f}"),
    ("mfu", "speed/mfu", "{:.1%}"),
    ("s/step", "time/step", "{:.3g}"),
    ("data wait", "time/data_wait_share", "{:.0%}"),
)


class Report:
    """Writes metrics of one run. Only the first process of a job should have one that is enabled."""

    def __init__(self, directory: epath.PathLike, *, first_step: int, last_step: int, enabled: bool = True):
        """Opens the files.

        Args:
          directory: of the run.
          first_step: updates done so far; what an earlier, killed run logged beyond it is dropped.
          last_step: updates at the end of the run.
          enabled: False writes nothing.
        """
        self.enabled = enabled
        if not enabled:
            return
        directory = epath.Path(directory)
        self._path = directory / METRICS_FILE
        self._local = object_store.is_local(self._path)
        self._lines = GrowingFile(self._path, _lines_up_to(self._path, first_step))
        self._events = new_events(directory / "tensorboard", first_step)
        self._flushed = time.monotonic()
        self._bar = tqdm(total=last_step, initial=first_step, unit="step", disable=not sys.stderr.isatty(),
                         dynamic_ncols=True)

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def log(self, step: int, values: dict[str, float]) -> None:
        """One line per sink.

        Args:
          step: updates done.
          values: by name; floats are stored with all their digits.
        """
        if not self.enabled:
            return
        self._lines.append(json.dumps({"step": step} | values).encode() + b"\n")
        self._events.append(scalars(step, values))
        if time.monotonic() - self._flushed >= _SECONDS_BETWEEN_WRITES:
            self.flush()
        shown = [f"{label} {form.format(values[name])}" for label, name, form in _CONSOLE if name in values]
        self.say(f"step {step:>7}  " + "  ".join(shown))

    def flush(self) -> None:
        """Puts every line so far into files that are in a bucket.

        What a checkpoint will not repeat has to be there before the checkpoint is.
        """
        if not self.enabled or self._local:
            return
        self._flushed = time.monotonic()
        with self._forgiving():
            self._lines.flush()
            self._events.flush()

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._local:
                raise
            # No reason to end a run: the next write holds these lines too.
            _LOG.warning("%s cannot be written now (%s); tried again with the next lines.", self._path.parent, error)

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        if self.enabled:
            self._bar.update(step - self._bar.n)

    def say(self, text: str) -> None:
        """A line on the console that does not tear the progress bar."""
        if self.enabled:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def close(self) -> None:
        """Writes what is left and closes the files."""
        if self.enabled:
            self._bar.close()
            for file in (self._lines, self._events):
                with self._forgiving():
                    file.close()


def _lines_up_to(path: epath.Path, step: int) -> bytes:
    if not object_store.exists(path):
        return b""
    kept = []
    for line in object_store.read_bytes(path).splitlines():
        try:
            number = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue  # the line that a kill tore
        if number <= step:
            kept.append(line + b"\n")
    return b"".join(kept)
