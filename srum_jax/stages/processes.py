"""Which of several processes this one is."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from srum_jax.errors import BadInput

Numbered = TypeVar("Numbered")  # something with a `number` among all of its kind


@dataclasses.dataclass(frozen=True)
class Processes:
    """Number `index` of `count`."""

    index: int = 0
    count: int = 1

    def share(self, units: Sequence[Numbered]) -> list[Numbered]:
        """What of all units is this process's."""
        return [unit for unit in units if unit.number % self.count == self.index]


ALONE = Processes()


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the group "processes"; what is given there goes to `find_processes`."""
    group = parser.add_argument_group("processes", "Each makes its share, on its own devices, and waits for no other.")
    group.add_argument("--process-index", type=int, metavar="I", help="of this process, from 0")
    group.add_argument("--num-processes", type=int, metavar="N", help="may be another one when a run goes on")
    group.add_argument("--distributed", action="store_true", help="ask JAX for both, as on a Cloud TPU pod")


def find_processes(index: int | None, count: int | None, distributed: bool) -> Processes:
    """Takes the given numbers, or asks JAX.

    Args:
      index: from 0, or None.
      count: of all processes, or None.
      distributed: whether to ask JAX. The processes then meet once, and part: from there on none waits for another,
        and none is ended because another one failed.

    Raises:
      BadInput: the numbers contradict each other, or the environment says nothing of other processes.
      Failure: they do not come.
    """
    if distributed:
        if index is not None or count is not None:
            raise BadInput("--distributed: expected either it, or --process-index and --num-processes, found both.")
        from srum_jax.distributed import DistributedError, meet_and_part  # imports JAX

        try:
            return Processes(*meet_and_part())
        except DistributedError as error:
            raise BadInput(f"{error} --process-index and --num-processes need none of this.") from error
    if (index is None) != (count is None):
        raise BadInput(f"--process-index, --num-processes: expected both or neither, found {index} and {count}.")
    if index is None:
        return Processes()
    if count < 1 or not 0 <= index < count:
        raise BadInput(f"--process-index: expected a number from 0 to below --num-processes, found {index} of "
                           f"{count}.")
    return Processes(index, count)
