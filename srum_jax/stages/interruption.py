"""SIGTERM and Ctrl-C end a command in time, even while it is inside a computation that hears no signals.

The handler of a signal runs between two steps of Python. A batch that a model computes may take minutes, and the
machine may be taken away sooner. So a thread of its own waits for the signal, and after a while ends the process as it
is: what was committed is complete, everything else is absent or has a temporary name.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

EXIT_CODE = 130
_SECONDS_TO_FINISH = 20.0  # a preempted machine has 30
MESSAGE = "interrupted; what was committed is kept, give the same command again to go on"


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
    previous_descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reading, ended, seconds), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(previous_descriptor)
        signal.signal(signal.SIGTERM, previous)
        os.close(writing)  # the thread then reads the end of the pipe
        watch.join()
        os.close(reading)


def _watch(descriptor: int, ended: threading.Event, seconds: float) -> None:
    while (numbers := os.read(descriptor, 64)) and not {signal.SIGTERM, signal.SIGINT} & set(numbers):
        continue
    if numbers and not ended.wait(seconds):
        print(MESSAGE, file=sys.stderr, flush=True)
        os._exit(EXIT_CODE)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
