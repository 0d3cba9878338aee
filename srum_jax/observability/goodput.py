"""What share of a run's time went into steps that count, from its first start on and over all restarts.

`goodput.jsonl` in the work directory has one line per start of the command, which says how its seconds were spent. The
lines are few and short, so the file is written anew as a whole at every log line; whatever a kill leaves is complete.

How long something took is measured by a clock that nobody sets. When a start began is a date, and a date is what tells
how long nothing ran between two starts; by how much the clock was set while a start ran stands in its line.
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from etils import epath

from srum_jax.observability.step_times import COMPUTE, PARTS, Split
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import atomic_write

GOODPUT_FILE = "goodput.jsonl"

START_UP, COMPILE, RESTORE = "start-up", "compile", "restore"
LOST_WORK, DOWN = "lost work", "down"  # what no single start knows
_OF_A_START = (START_UP, RESTORE, COMPILE, *PARTS)

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_WRITES = 30.0  # into a bucket


@dataclasses.dataclass
class Start:
    """One start of the command: a line of the file."""

    began: float  # seconds since 1970
    first_step: int  # updates done when it began
    step: int  # updates done in the end
    finished: bool = False  # the run was complete; what comes after it is no interruption
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(_OF_A_START, 0.0))
    clock_set: float = 0.0  # seconds by which the clock was set forward meanwhile

    @property
    def ended(self) -> float:
        """When it was last heard of, by the clock as it was then."""
        return self.began + sum(self.seconds.values()) + self.clock_set

    @classmethod
    def from_line(cls, line: str) -> "Start | None":
        """None for a line that is damaged."""
        try:
            fields = json.loads(line)
            seconds = {name: float(fields["seconds"][name]) for name in _OF_A_START}
            start = cls(float(fields["began"]), int(fields["first_step"]), int(fields["step"]),
                        bool(fields["finished"]), seconds, float(fields["clock_set"]))
        except (ValueError, KeyError, TypeError):
            return None
        return start if math.isfinite(start.ended) else None


def account(starts: Sequence[Start]) -> dict[str, float]:
    """Seconds by phase from the first start to the last sign of the last one; they add up to all of that time, or to
    less where the clock was set back between two starts.

    Steps that a later start did again, because theirs was killed before it saved, are lost work: their share of its
    computing, by their number. What a start did after its last log line is not known, and counts as down time.
    """
    phases = dict.fromkeys((*_OF_A_START, LOST_WORK, DOWN), 0.0)
    done_again_from = math.inf
    following: Start | None = None
    for start in reversed(starts):
        for name, seconds in start.seconds.items():
            phases[name] += seconds
        steps = start.step - start.first_step
        kept = min(start.step, done_again_from) - start.first_step
        if steps > 0 and kept < steps:
            lost = start.seconds[COMPUTE] * (1.0 - max(kept, 0) / steps)
            phases[COMPUTE] -= lost
            phases[LOST_WORK] += lost
        if following is not None and not start.finished:
            phases[DOWN] += max(0.0, following.began - start.ended)
        done_again_from, following = min(done_again_from, start.first_step), start
    return phases


class Goodput:
    """Keeps the account of this start, and of those before it in the same work directory."""

    def __init__(self, directory: epath.Path, began: float, *, enabled: bool = True,
                 clock: Callable[[], float] = time.monotonic, date: Callable[[], float] = time.time):
        """Counts from `began`; writes nothing yet.

        Args:
          directory: of the run.
          began: when this start did, by `clock`.
          enabled: False for all but the first process, which writes for all of them.
          clock: seconds; only ever goes forward.
          date: seconds since 1970; may be set.
        """
        self._path, self._enabled, self._clock, self._date = directory / GOODPUT_FILE, enabled, clock, date
        self._began, self._ahead = began, date() - clock()  # of the date
        self._start = Start(began + self._ahead, 0, 0)
        self._earlier: list[Start] = []
        self._written = -math.inf

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around a phase of the start-up."""
        begin = self._clock()
        yield
        self._start.seconds[name] += self._clock() - begin

    def open(self, first_step: int) -> None:
        """Reads what earlier starts left, and puts this one beside them.

        Args:
          first_step: updates done so far.
        """
        self._start.first_step = self._start.step = first_step
        if self._enabled:
            self._earlier = _read(self._path)
            self._write()

    def steps_begin(self) -> None:
        """Ends the start-up: the first step is about to be handed over."""
        seconds = self._start.seconds
        seconds[START_UP] = 0.0
        seconds[START_UP] = max(0.0, self._clock() - self._began - sum(seconds.values()))

    def add(self, split: Split, step: int) -> None:
        """Time of steps.

        Args:
          split: of what came since the last call.
          step: updates done by now.
        """
        self._start.step = step
        for name, seconds in split.items():
            self._start.seconds[name] += seconds

    @property
    def share(self) -> float:
        """Seconds of steps that count over all seconds since the run began."""
        phases = account([*self._earlier, self._start])
        total = sum(phases.values())
        return phases[COMPUTE] / total if total > 0 else 0.0

    def write(self) -> None:
        """Puts the state of this start into the file; into a bucket not each time."""
        due = object_store.is_local(self._path) or time.monotonic() - self._written >= _SECONDS_BETWEEN_WRITES
        if self._enabled and due:
            self._write()

    def close(self, *, finished: bool) -> None:
        """Ends the account of this start.

        Args:
          finished: whether the run is complete.
        """
        self._start.finished = finished
        if self._enabled:
            self._write()

    def summary(self) -> str:
        """All phases in one line."""
        return summary(account([*self._earlier, self._start]), len(self._earlier) + 1)

    def _write(self) -> None:
        self._written = time.monotonic()
        self._start.clock_set = round(self._date() - self._clock() - self._ahead, 3)
        lines = [json.dumps(dataclasses.asdict(start)) for start in (*self._earlier, self._start)]
        try:
            with atomic_write(self._path, durable=False) as file:
                file.write("".join(f"{line}\n" for line in lines).encode())
        except OSError as error:
            if object_store.is_local(self._path):
                raise
            _LOG.warning("%s cannot be written now (%s); tried again later.", self._path, error)


def summary(phases: Mapping[str, float], num_starts: int) -> str:
    """One line for people: phases by size, those of nothing left out.

    Args:
      phases: see `account`.
      num_starts: of the command.
    """
    total = sum(phases.values()) or 1.0
    starts = "" if num_starts == 1 else f" ({num_starts} starts)"
    others = sorted(((seconds, name) for name, seconds in phases.items() if name != COMPUTE), reverse=True)
    shares = ", ".join(f"{name.replace('_', ' ')} {seconds / total:.1%}"
                       for seconds, name in others if seconds / total >= 0.0005)
    lasted = datetime.timedelta(seconds=round(total))
    return (f"goodput {phases[COMPUTE] / total:.1%} of the {lasted} since the run began{starts}"
            + (f"; {shares}" if shares else ""))


def _read(path: epath.Path) -> list[Start]:
    if not object_store.exists(path):
        return []
    lines = object_store.read_bytes(path).decode().splitlines()
    starts = [start for line in lines if (start := Start.from_line(line)) is not None]
    if len(starts) < len(lines):
        _LOG.warning("%s: %d of %d lines are damaged and left out; the time of these starts counts as down.", path,
                     len(lines) - len(starts), len(lines))
    return starts
