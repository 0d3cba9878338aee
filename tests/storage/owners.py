"""Other processes that own a directory."""

import contextlib
import subprocess
import sys

HOLD = ("import sys, time\nfrom etils import epath\nfrom srum_jax.storage.ownership import owned\n"
         "with owned(epath.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)")


@contextlib.contextmanager
def holder(directory):
    """Another process that owns a directory."""
    directory.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
