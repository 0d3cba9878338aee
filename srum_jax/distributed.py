"""Makes this process one of several of the same command: `--distributed` of training, generation, the reward stage
and the tool that computes latents.

JAX finds the others by itself on Cloud TPU, GKE, Slurm and Open MPI. Elsewhere three environment variables say where
process 0 is, how many processes there are, and which of them this one is.
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax._src.distributed import global_state  # the client and what was found of the cluster stand nowhere else

from srum_jax.errors import BadInput, Failure
from srum_jax.process_watch import ProcessWatch

ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"

MEETING_SECONDS = 300  # for all hosts to start the command
# Of JAX's own watch over its processes, which ends them without a word that a user understands. It is here for the case
# that ours cannot do so, and has to come after it.
_HEARTBEAT_SECONDS = 90


class DistributedError(BadInput):
    """The environment does not say which process of how many this one is."""


_Place = dict[str, Any]  # what the environment variables say, by name; None: JAX has to find out


def join(meeting_seconds: float = MEETING_SECONDS) -> ProcessWatch:
    """Meets the other processes, and watches over them from then on.

    If they do not come in time, this process ends with exit code 1: another start may find them.

    Args:
      meeting_seconds: to wait for them.

    Returns:
      To be closed when the work is done, or told of the error that ends this process.

    Raises:
      DistributedError: an environment variable is missing or makes no sense.
      Failure: JAX gave up, for a reason that may pass.
    """
    _meet(meeting_seconds)
    watch = ProcessWatch(global_state.client, global_state.process_id, global_state.num_processes)
    watch.start()
    return watch


def meet_and_part() -> tuple[int, int]:
    """Number of this process, and how many there are.

    From there on none of them waits for another, and none is ended because another one failed.

    Raises:
      DistributedError, Failure: as `join`.
    """
    _meet(MEETING_SECONDS)
    found = jax.process_index(), jax.process_count()
    jax.distributed.shutdown()
    return found


def _meet(seconds: float) -> None:
    place = _read(os.environ)
    try:
        with _impatience(seconds, place):
            jax.distributed.initialize(
                place[ADDRESS], place[COUNT], place[NUMBER], heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
                initialization_timeout=int(seconds) + 60)  # at its end JAX would abort without saying what to do
    except ValueError as error:
        raise DistributedError(_what_is_missing(place, error)) from error
    except RuntimeError as error:
        raise Failure(f"--distributed: the other processes were not met ({error}).") from error


def _read(environment: Mapping[str, str]) -> _Place:
    """The variables, checked one by one.

    Raises:
      DistributedError: naming the variable.
    """
    address = environment.get(ADDRESS)
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise DistributedError(f"{ADDRESS}: expected HOST:PORT of process 0, as in 10.0.0.1:8476, found {address!r}.")
    count, number = (_integer(environment, name) for name in (COUNT, NUMBER))
    if count is not None and count < 1:
        raise DistributedError(f"{COUNT}: expected how many processes there are, at least 1, found {count}.")
    if number is not None and (number < 0 or (count is not None and number >= count)):
        below = "" if count is None else f" to {count - 1} ({COUNT} is {count})"
        raise DistributedError(f"{NUMBER}: expected a number from 0{below}, another one in each process, found "
                               f"{number}.")
    return {ADDRESS: address or None, COUNT: count, NUMBER: number}


def _integer(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    try:
        return None if text is None else int(text)
    except ValueError:
        raise DistributedError(f"{name}: expected a whole number, found {text!r}.") from None


def _what_is_missing(place: _Place, error: Exception) -> str:
    missing = [name for name, value in place.items() if value is None]
    if not missing:
        return f"--distributed: {error}"
    given = [f"{name}={value}" for name, value in place.items() if value is not None]
    found = f"{', '.join(given)} without {', '.join(missing)}" if given else "none of them"
    return (f"--distributed: this is no Cloud TPU, GKE, Slurm or Open MPI job that JAX knows ({error}). Elsewhere, set "
            f"{ADDRESS} (HOST:PORT of process 0), {COUNT} and {NUMBER} (from 0) in every process; found {found}.")


@contextlib.contextmanager
def _impatience(seconds: float, place: _Place) -> Iterator[None]:
    """Ends the process with a message if the block takes longer: JAX would abort it without one."""

    def give_up() -> None:
        where = place[ADDRESS] or global_state.coordinator_address or "the address that JAX found"
        number, count = place[NUMBER] or global_state.process_id, place[COUNT] or global_state.num_processes
        if number and not _answers(where):
            reason = f"process 0 does not answer at {where}; is it running, and can this host reach that port?"
        else:
            reason = (f"not all of them came to process 0 at {where}; start the same command on every host, each with "
                      f"its own {NUMBER} where these variables are set by hand.")
        print(f"error: process {number} of {count} on {socket.gethostname()} waited {seconds:.0f} s for the others: "
              f"{reason}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True
