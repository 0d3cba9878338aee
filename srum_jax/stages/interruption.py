"""A command that is asked to stop, by SIGTERM or Ctrl-C, ends in time and says how it goes on.

That holds inside a computation that hears no signals too. The handler of a signal runs between two steps of Python. A
batch that a model computes may take minutes, and the machine may be taken away sooner. So a thread of its own waits for
the signal, and after a while ends the process as it is: what was committed is complete, everything else is absent or
has a temporary name.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from srum_jax.errors import ANTICIPATED, tell
from srum_jax.stages.ahead import is_computing

EXIT_CODE = 130
_SECONDS_TO_FINISH = 20.0  # a preempted machine has 30
_MESSAGE = "interrupted; what was finished is kept, give the same command again to go on"


def run_command(work: Callable[[], int | None]) -> int:
    """Does what a command is for; whatever is expected to happen to it becomes one line and an exit code.

    Args:
      work: returns an exit code, or None for 0.

    Returns:
      The exit code: that of an anticipated error (see `errors`), or 130 after SIGTERM or Ctrl-C.
    """
    try:
        with ends_in_time():
            return work() or 0
    except ANTICIPATED as error:
        code = tell(error)
    except KeyboardInterrupt:
        code = tell_interrupted()
    if is_computing():  # nothing of that batch is kept, and it may take minutes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def tell_interrupted() -> int:
    """Says that a command was asked to stop; returns the exit code."""
    print(_MESSAGE, file=sys.stderr, flush=True)
    return EXIT_CODE


@contextlib.contextmanager
def ends_in_time(seconds: float = _SECONDS_TO_FINISH) -> Iterator[None]:
    """Raises KeyboardInterrupt at SIGTERM too; if the block does not end within `seconds` of a signal, the process
    does.

    Does nothing outside of the main thread, which alone can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ended = threading.Event()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    previous_hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_again_if_lost, ended, previous_hook)
    previous_descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reading, ended, seconds), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(previous_descriptor)
        signal.signal(signal.SIGTERM, previous)
        sys.unraisablehook = previous_hook
        os.close(writing)  # the thread then reads the end of the pipe
        watch.join()
        os.close(reading)


def _watch(descriptor: int, ended: threading.Event, seconds: float) -> None:
    while (numbers := os.read(descriptor, 64)) and not {signal.SIGTERM, signal.SIGINT} & set(numbers):
        continue
    if numbers and not ended.wait(seconds):
        os._exit(tell_interrupted())


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _again_if_lost(ended: threading.Event, hook: Callable[[Any], object], unraisable: Any) -> None:
    """Interrupts again, a moment later, where the first interruption fell into a finalizer, which swallows it."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main = threading.main_thread().ident  # the signal itself, as only that ends a wait
        threading.Timer(0.01, lambda: ended.is_set() or signal.pthread_kill(main, signal.SIGTERM)).start()
    else:
        hook(unraisable)
