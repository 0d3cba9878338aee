"""Several processes that share the units of a stage."""

import argparse

from tools.make_rewards.errors import ArgumentError


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the group "processes"."""
    group = parser.add_argument_group("processes")
    group.add_argument("--process-index", type=int, default=0, metavar="I", help="which of the processes this is")
    group.add_argument("--num-processes", type=int, default=1, metavar="N", help="how many share the work")


def processes_of(arguments: argparse.Namespace) -> tuple[int, int]:
    """Number of this process, and how many there are.

    Raises:
      ArgumentError: the numbers contradict each other.
    """
    index, count = arguments.process_index, arguments.num_processes
    if count < 1 or not 0 <= index < count:
        raise ArgumentError(f"--process-index: expected a number from 0 to below --num-processes, found {index} of "
                            f"{count}.")
    return index, count
