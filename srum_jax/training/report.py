"""Where metrics go: a line on the console, `metrics.jsonl`, TensorBoard, a progress bar on a terminal."""

import json
import os
import sys

from etils import epath
from tqdm import tqdm

METRICS_FILE = "metrics.jsonl"

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
        self._path = epath.Path(directory) / METRICS_FILE
        self._lines = _lines_up_to(self._path, first_step)
        _write_atomically(self._path, self._lines)
        from tensorboardX import SummaryWriter  # imports PyTorch where it is installed: seconds that only a run spends

        self._tensorboard = SummaryWriter(os.fspath(epath.Path(directory) / "tensorboard"), purge_step=first_step + 1)
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
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step} | values) + "\n")
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)
        shown = [f"{label} {form.format(values[name])}" for label, name, form in _CONSOLE if name in values]
        self.say(f"step {step:>7}  " + "  ".join(shown))

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
        """Flushes and closes the files."""
        if self.enabled:
            self._bar.close()
            self._tensorboard.close()


def _lines_up_to(path: epath.Path, step: int) -> list[str]:
    if not path.exists():
        return []
    kept = []
    for line in path.read_text().splitlines():
        try:
            number = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue  # the line that a kill tore
        if number <= step:
            kept.append(line)
    return kept


def _write_atomically(path: epath.Path, lines: list[str]) -> None:
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_text("".join(f"{line}\n" for line in lines))
    temporary.replace(path)
