"""Work for the page, in a thread: what it tells while it goes on, how long it has taken, and whether it compiles.

One piece of work at a time, whoever asks: a visitor who leaves does not stop what was begun for him, and the next one
waits until it has ended.
"""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import jax.monitoring
import numpy as np

Result = TypeVar("Result")

_TURN = threading.Lock()
_EVERY = 0.5  # seconds between two updates at most
_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"  # what follows is the compiler's work
_COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass(frozen=True)
class Update(Generic[Result]):
    """How far work is.

    Attributes:
      text: what is being done.
      seconds: since it was asked for.
      pictures: in view, uint8 [H, W, 3]; empty where there are no new ones.
      plans: as far as they are written; empty where nothing is new.
      result: of the work, in the last update; None before.
    """

    text: str
    seconds: float
    pictures: Sequence[np.ndarray] = ()
    plans: Sequence[str] = ()
    result: Result | None = None


class _Compiling:
    """Knows whether a program is being compiled, from the events of JAX."""

    def __init__(self):
        self.since: float | None = None
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration: float, **_: Any) -> None:
        if event == _LOWERED:
            self.since = time.monotonic()
        elif event == _COMPILED:
            self.since = None

    @property
    def now(self) -> bool:
        """Whether it takes long enough to be told."""
        since = self.since
        return since is not None and time.monotonic() - since > _EVERY


_COMPILING = _Compiling()


def watched(work: Callable[[Callable[..., None]], Result]) -> Iterator[Update[Result]]:
    """Updates, the last of which has the result.

    Args:
      work: is called with what it is to call: `tell(text, pictures=(), plans=())`.

    Raises:
      Whatever the work raises.
    """
    started, told = time.monotonic(), queue.SimpleQueue()
    text = "waiting for the work of others" if _TURN.locked() else "beginning"

    def run() -> None:
        with _TURN:
            try:
                told.put(("done", work(lambda text, pictures=(), plans=(): told.put(("told", text, pictures, plans)))))
            except BaseException as error:
                told.put(("failed", error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        pictures: Sequence[np.ndarray] = ()
        plans: Sequence[str] = ()
        try:
            message = told.get(timeout=_EVERY)
        except queue.Empty:
            message = None
        match message:
            case "failed", error:
                raise error
            case "done", result:
                yield Update("done", time.monotonic() - started, result=result)
                return
            case "told", text, pictures, plans:
                pass
        compiling = " (compiling, the first time only)" if _COMPILING.now else ""
        yield Update(text + compiling, time.monotonic() - started, pictures, plans)
