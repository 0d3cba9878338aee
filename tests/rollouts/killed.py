"""The training command, killed from within at a place that no clock could hit.

    python -m tests.rollouts.killed PHASE ARGUMENTS_OF_TRAIN

PHASE is one of `PHASES`; the process ends by SIGKILL in the middle of its second one.
"""

import os
import signal

from srum_jax.rollouts import candidates
from srum_jax.train import main as train
from srum_jax.training import loop
from srum_jax.training.checkpoint import Checkpoints

PHASES = ("captions", "rewards_of_captions", "update", "save")
_PLACES = {"update": (loop, "compile_step"), "save": (Checkpoints, "save")}


def main(argv):
    """The command line."""
    phase, *rest = argv
    owner, name = _PLACES.get(phase, (candidates, f"_{phase}"))
    inner, calls = getattr(owner, name), []

    def second_is_the_last(function):
        def called(*arguments, **named):
            result = function(*arguments, **named)
            calls.append(1)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)  # what was begun is not finished, nothing is closed
            return result
        return called

    def compiled(*arguments):
        step = inner(*arguments)
        called = second_is_the_last(step)
        called.memory_analysis = step.memory_analysis
        return called

    setattr(owner, name, compiled if phase == "update" else second_is_the_last(inner))
    return train(rest)
