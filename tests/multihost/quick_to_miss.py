"""The training command, which gives up a silent process after 10 seconds instead of 30.

`tests/test_process_watch.py` holds the 30.
"""

from srum_jax import process_watch
from srum_jax.train import main as train


def main(argv):
    """The command line."""
    process_watch.ROUNDS_UNTIL_LOST = 5
    return train(argv)
