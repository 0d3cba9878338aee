"""Where the time of a step goes, without waiting for any step.

From the end of one step to the end of the next the devices either compute or have nothing to do. A thread notes when
the result of each step is there, and the loop notes when it draws a batch, saves, and hands a step to the devices:

    end of step n - 1     batch is there   handed over             end of step n
    |---- data wait ------|---- other -----|------- compute -------|

A batch that is drawn while the devices still work on the step before costs nothing, and none of it is data wait.
"""

import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import jax

# The devices work, or wait for those of other processes; or have nothing to do, because the loop was waiting for a
# batch, was busy saving, or was logging or doing something else.
COMPUTE, DATA_WAIT, CHECKPOINT, OTHER = PARTS = ("compute", "data_wait", "checkpoint", "other")
_PATIENCE_SECONDS = 5.0  # with a step that other processes take part in
_LOOK_SECONDS = 1.0  # between two looks whether the thread is alive


Split = collections.Counter[str]  # seconds of one step or of several, by PARTS
# What the loop did, from when, to when.
_Span = tuple[str, float, float]


def split_step(start: float, handed_over: float, end: float, spans: Sequence[_Span]) -> Split:
    """Splits the time between the ends of two steps.

    Args:
      start: end of the step before.
      handed_over: when the devices were given this step.
      end: of this step.
      spans: what the loop did in the meantime.
    """
    begin = min(max(start, handed_over), end)
    idle: Split = collections.Counter()
    for part, first, last in spans:
        idle[part] += max(0.0, min(last, begin) - max(first, start))
    idle[OTHER] = max(0.0, begin - start - idle.total())
    return collections.Counter({COMPUTE: end - begin, **idle})


class StepTimes:
    """Times the steps of a loop. Whatever was before the first one is handed over does not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._spans: list[_Span] = []
        self._under_way: list[tuple[float, list[_Span]]] = []  # steps whose end was not asked for yet
        self._handed_over = 0.0
        self._last_end: float | None = None
        self._results: queue.SimpleQueue[jax.Array | None] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._note_ends, name="step times", daemon=True)

    def __enter__(self) -> "StepTimes":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._results.put(None)
        # Python aborts when it ends while a thread is inside of the runtime. Where another process was lost the step
        # that is under way may never end, and whoever is left ends without Python's help.
        self._thread.join(None if jax.process_count() == 1 else _PATIENCE_SECONDS)

    @contextlib.contextmanager
    def span(self, part: str) -> Iterator[None]:
        """Around what the loop does meanwhile: DATA_WAIT gets the next batch, CHECKPOINT saves."""
        first = self._clock()
        yield
        self._spans.append((part, first, self._clock()))

    def hand_over(self) -> None:
        """Right before a step is given to the devices."""
        self._handed_over = self._clock()

    def handed_over(self, result: jax.Array) -> None:
        """Right after; `result` is what the step will have computed, and must not be donated."""
        self._under_way.append((self._handed_over, self._spans))
        self._spans = []
        self._results.put(result)

    def finish(self) -> Split:
        """The split of the oldest step that was not asked for yet; to be called when its result is known."""
        handed_over, spans = self._under_way.pop(0)
        start = handed_over if self._last_end is None else self._last_end
        self._last_end = self._next_end()
        return split_step(start, handed_over, self._last_end, spans)

    def finish_rest(self) -> Split:
        """What came after the last step, up to now."""
        if self._last_end is None:
            return collections.Counter()
        start, self._last_end = self._last_end, self._clock()
        spans, self._spans = self._spans, []
        return split_step(start, self._last_end, self._last_end, spans)

    def _next_end(self) -> float:
        while True:
            try:
                return self._ends.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if not self._thread.is_alive() and self._ends.empty():
                    return self._clock()  # an error that nobody expected ended it: a time is not worth waiting for

    def _note_ends(self) -> None:
        while (result := self._results.get()) is not None:
            try:
                result.block_until_ready()
            except (RuntimeError, ValueError):
                pass  # the step failed: the loop hears of it when it reads the metrics
            finally:
                self._ends.put(self._clock())
            del result
