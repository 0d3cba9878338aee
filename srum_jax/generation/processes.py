"""Which of several processes this one is."""

import dataclasses
import os

import jax


class ProcessError(ValueError):
    """The processes cannot be told apart."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """Number `index` of `count`."""

    index: int = 0
    count: int = 1


def find_processes(index: int | None, count: int | None, distributed: bool) -> Processes:
    """Takes the given numbers, or asks JAX.

    Args:
      index: from 0, or None.
      count: of all processes, or None.
      distributed: whether to ask JAX. The processes then meet once, and part: from there on none waits for another,
        and none is ended because another one failed.

    Raises:
      ProcessError: the numbers contradict each other, or the other processes are not found.
    """
    if distributed:
        if index is not None or count is not None:
            raise ProcessError("--distributed: expected either it, or --process-index and --num-processes, found both.")
        return _ask_jax()
    if (index is None) != (count is None):
        raise ProcessError(f"--process-index, --num-processes: expected both or neither, found {index} and {count}.")
    if index is None:
        return Processes()
    if count < 1 or not 0 <= index < count:
        raise ProcessError(f"--process-index: expected a number from 0 to below --num-processes, found {index} of "
                           f"{count}.")
    return Processes(index, count)


def _ask_jax() -> Processes:
    count, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(num_processes=count and int(count), process_id=number and int(number))
        found = Processes(jax.process_index(), jax.process_count())
        jax.distributed.shutdown()
    except (ValueError, RuntimeError) as error:
        raise ProcessError(f"--distributed: {error} Set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID "
                           "where they are not found by themselves, or use --process-index and --num-processes."
                           ) from error
    return found
