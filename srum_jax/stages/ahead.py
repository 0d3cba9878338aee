"""Computing the next item while the caller deals with the one before, in a thread that a signal need not wait for."""

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


_running: set["_Call"] = set()


def is_computing() -> bool:
    """Whether an item is being computed: then this process can only end by `os._exit`, or by waiting for it."""
    return bool(_running)


class _Call(Generic[Result]):
    """One call in a thread of its own. The thread does not keep the process from ending."""

    def __init__(self, function: Callable[[], Result]):
        self._function = function
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        _running.add(self)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # handed to the caller
            self._error = error
        _running.discard(self)
        self._ended.set()

    def wait(self) -> Result:
        # Signal handlers run while the main thread waits here; they would not while it waits inside a computation.
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._result


def one_ahead(items: Iterable[Item], compute: Callable[[Item], Result]) -> Iterator[tuple[Item, Result]]:
    """Yields every item with its result, in order; while the caller holds one, the next is being computed.

    An error of an item is raised when its turn comes; nothing after it is computed.
    """
    current: tuple[Item, _Call[Result]] | None = None
    for item in items:
        ready = None if current is None else (current[0], current[1].wait())
        current = item, _Call(functools.partial(compute, item))
        if ready is not None:
            yield ready
    if current is not None:
        yield current[0], current[1].wait()
