"""The training command, sent a signal from within at a place that no clock could hit.

    python -m tests.rollouts.killed SIGNAL PHASE CALL ARGUMENTS_OF_TRAIN

The signal comes right after the CALL-th of the phase's calls, before anything is made of its result.
"""

import os
import signal

from srum_jax.rollouts import candidates
from srum_jax.train import main as train
from srum_jax.training import loop
from srum_jax.training.checkpoint import Checkpoints

_PLACES = {"captions": (candidates, "_captions"), "rewards": (candidates, "_rewards_of_captions"),
           "update": (loop, "compile_step"), "save": (Checkpoints, "save")}


def main(argv):
    """The command line."""
    number, phase, last, *rest = argv
    owner, name = _PLACES[phase]
    inner, calls = getattr(owner, name), []

    def counted(function):
        def called(*arguments, **named):
            result = function(*arguments, **named)
            calls.append(1)
            if len(calls) == int(last):
                os.kill(os.getpid(), signal.Signals[number])
            return result
        return called

    def compiled(*arguments):
        step = inner(*arguments)
        called = counted(step)
        called.memory_analysis = step.memory_analysis
        return called

    setattr(owner, name, compiled if phase == "update" else counted(inner))
    return train(rest)
