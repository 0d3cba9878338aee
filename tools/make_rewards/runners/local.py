"""A stage as a process of this machine.

A process of its own gives back all memory of its devices, and of PyTorch, before the next stage starts.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence

_SECONDS_TO_TIDY_UP = 15.0  # less than what this process itself is given


def run_stage(stage: str, words: Sequence[str]) -> int:
    """Runs one stage to its end; interruptions are passed on to it.

    Args:
      stage: name of the subcommand.
      words: its arguments.

    Returns:
      Its exit code; 1 if a signal ended it.
    """
    process = subprocess.Popen([sys.executable, "-m", "tools.make_rewards", stage, *words])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_SECONDS_TO_TIDY_UP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if code < 0:
        print(f"error: {stage} was ended by signal {-code} ({signal.Signals(-code).name}); give the same command again "
              "to go on", file=sys.stderr)
        return 1
    return code
