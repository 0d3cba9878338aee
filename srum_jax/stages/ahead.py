"""Computing the next item while the caller deals with the one before, in a thread that a signal need not wait for."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_running: set[Future] = set()


def is_computing() -> bool:
    """Whether an item is being computed: then this process can only end by `os._exit`, or by waiting for it."""
    return bool(_running)


def _started(compute: Callable[[Item], Result], item: Item) -> "Future[Result]":
    """One call in a thread of its own, which does not keep the process from ending as those of an executor do.

    Signal handlers run while the main thread waits for the result; they would not while it waits inside a computation.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            result, error = compute(item), None
        except BaseException as raised:  # handed to the caller
            result, error = None, raised
        _running.discard(future)
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    _running.add(future)
    threading.Thread(target=run, daemon=True).start()
    return future


def one_ahead(items: Iterable[Item], compute: Callable[[Item], Result]) -> Iterator[tuple[Item, Result]]:
    """Yields every item with its result, in order; while the caller holds one, the next is being computed.

    An error of an item is raised when its turn comes; nothing after it is computed.
    """
    current: tuple[Item, Future[Result]] | None = None
    for item in items:
        ready = None if current is None else (current[0], current[1].result())
        current = item, _started(compute, item)
        if ready is not None:
            yield ready
    if current is not None:
        yield current[0], current[1].result()
