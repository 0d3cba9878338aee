"""Ends the processes of a job together, each with a message that says which of them was lost and why.

One process that is gone leaves the others in a collective which may never end. Every process therefore leaves a sign of
life with JAX's coordination service every two seconds; process 0, where that service is, looks for those that have
fallen silent. A process that ends by an error says so there first, and the others hear of it within two seconds.
"""

import os
import socket
import sys
import threading
import time
from typing import Any, NoReturn

import jax

ROUND_SECONDS = 2.0
ROUNDS_UNTIL_LOST = 15  # of process 0: while it is held up itself, nobody's silence counts
ROUNDS_WITHOUT_ANSWER = 5  # a connection that breaks for a moment must not end a job of a thousand processes

_SIGNS, _ENDS = "srum_jax/signs/", "srum_jax/ends/"
_LEFT = "left"  # the last sign of a process whose work is done
_REASON_CHARACTERS = 600
_STATUS = ("UNKNOWN: ", "INTERNAL: ", "UNAVAILABLE: ", "DEADLINE_EXCEEDED: ", "ABORTED: ", "CANCELLED: ")


class ProcessWatch:
    """Of one process over all others, from a thread of its own."""

    def __init__(self, client: Any, number: int, count: int, *, round_seconds: float = ROUND_SECONDS):
        """Watches nothing yet.

        Args:
          client: of JAX's coordination service.
          number: of this process, from 0.
          count: of all processes.
          round_seconds: between two signs of life.
        """
        self.number, self.count = number, count
        self._client, self._seconds = client, round_seconds
        self._name = f"process {number} of {count} on {socket.gethostname()}"
        self._heard: dict[int, str | None] = dict.fromkeys(range(count))
        self._silent_rounds = dict.fromkeys(range(count), 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="process watch", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def close(self) -> None:
        """Ends the watch: the work of this process is done, and its silence means nothing from here on."""
        self._done.set()
        self._thread.join()
        for _ in range(ROUNDS_WITHOUT_ANSWER):
            try:
                self._client.key_value_set(f"{_SIGNS}{self.number}", _LEFT, allow_overwrite=True)
                return
            except jax.errors.JaxRuntimeError:
                time.sleep(self._seconds)
        # Process 0 is gone, and with it whoever would have read this.

    def abandon(self, code: int, reason: BaseException | str) -> NoReturn:
        """Ends this process by an error, and with it the others: a clean exit would wait for them for minutes.

        Args:
          code: exit code, of all of them.
          reason: what they show; this process has shown it already.
        """
        if isinstance(reason, BaseException) and _is_of_devices(reason):
            # Most likely the end of another process, seen from here. The watch knows it in a moment, and ends this one.
            print("the devices failed; finding out whether another process is gone ...", file=sys.stderr, flush=True)
            self._thread.join((ROUNDS_UNTIL_LOST + 3) * self._seconds)
        kind = f"{type(reason).__name__}: " if isinstance(reason, BaseException) else ""
        said = threading.Thread(target=self._say, args=(code, kind + str(reason)), daemon=True)
        said.start()
        said.join(5)  # it waits for process 0, which may not be there
        if self.number == 0:
            time.sleep(2 * self._seconds)  # the message goes when this process goes
        _end(code)

    def _say(self, code: int, reason: str) -> None:
        short = " ".join(reason.split())[:_REASON_CHARACTERS]
        self._client.key_value_set(f"{_ENDS}{self.number}", f"{code} {self._name} ended: {short}", allow_overwrite=True)

    def _watch(self) -> None:
        sign, unanswered = 0, 0
        while not self._done.is_set():
            sign += 1
            try:
                self._client.key_value_set(f"{_SIGNS}{self.number}", f"{sign} {self._name}", allow_overwrite=True)
                if self.number == 0:
                    self._look_for_silence()
                ends = [value for key, value in self._client.key_value_dir_get(_ENDS)
                        if key != f"{_ENDS}{self.number}"]
                unanswered = 0
            except jax.errors.JaxRuntimeError as error:
                unanswered += 1
                ends = [] if unanswered < ROUNDS_WITHOUT_ANSWER else [
                    f"1 process 0 of {self.count}, where all of them meet, does not answer any more "
                    f"({str(error).splitlines()[0]})."]
            if ends and not self._done.is_set():
                code, _, reason = ends[0].partition(" ")
                print(f"error: {reason}\n{self._name} cannot go on without it. Its own log may say more. The newest "
                      "checkpoint is intact: give the same command again on every host.", file=sys.stderr)
                _end(int(code))
            self._done.wait(self._seconds)

    def _look_for_silence(self) -> None:
        """Tells all of the first process that has given no sign for too long."""
        signs = dict(self._client.key_value_dir_get(_SIGNS))
        for number in range(1, self.count):
            sign = signs.get(f"{_SIGNS}{number}")
            self._silent_rounds[number] = 0 if sign != self._heard[number] else self._silent_rounds[number] + 1
            self._heard[number] = sign
            if sign != _LEFT and self._silent_rounds[number] >= ROUNDS_UNTIL_LOST:
                name = sign.partition(" ")[2] if sign else f"process {number} of {self.count}"
                silence = ROUNDS_UNTIL_LOST * self._seconds
                self._client.key_value_set(f"{_ENDS}{number}", f"1 {name} is lost: no sign of life for {silence:.0f} s "
                                           "(killed, out of memory, or its host is gone).", allow_overwrite=True)


def _is_of_devices(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, comes from a computation or a barrier and not from our own code."""
    while error is not None:
        # What fails while a step runs in the background arrives as a ValueError.
        if isinstance(error, jax.errors.JaxRuntimeError) or str(error).startswith(_STATUS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
