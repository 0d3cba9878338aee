"""`tools.make_rewards` whose regions and given scores take long: `main([SECONDS for each image, *arguments])`."""

import time

from srum_jax.judges.given_scores import GivenScores
from srum_jax.regions.components import Components
from tools.make_rewards import __main__ as command


def main(argv):
    seconds, *arguments = argv
    Components.propose = _after(float(seconds), Components.propose)
    GivenScores.judge = _after(float(seconds), GivenScores.judge)
    return command.main(arguments)


def _after(seconds, function):
    def slow(*given):
        time.sleep(seconds)
        return function(*given)

    return slow
