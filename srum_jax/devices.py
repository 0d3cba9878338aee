"""Starting the devices that JAX computes on."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator

import jax
from jaxlib.xla_client import CompileOptions

from srum_jax.errors import BadInput


def start_devices() -> None:
    """Starts JAX's backend, before a command writes anything. With `--distributed`, after the processes have met.

    Raises:
      BadInput: it cannot be started: no such platform, no such device in this machine, or another process has it.
    """
    try:
        with _without_the_search_for_tpus():
            jax.devices()
    except (RuntimeError, AssertionError) as error:  # an AssertionError has no words: the platform's package is absent
        reason = " ".join(str(error).replace("(set JAX_PLATFORMS='' to automatically choose an available backend)",
                                             "").split()) or "its package is not installed"
        platforms = jax.config.jax_platforms
        told = f"JAX_PLATFORMS={platforms}" if platforms else "JAX_PLATFORMS is not set"
        raise BadInput(f"JAX cannot start its devices: {reason.rstrip('.')} ({told}). End the process that holds "
                          "them, or choose a platform that this machine has, such as JAX_PLATFORMS=cpu.") from error


@contextlib.contextmanager
def _without_the_search_for_tpus() -> Iterator[None]:
    """Where libtpu is installed but no TPU is, it says so in lines of its own, past Python's streams."""
    from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm  # stands nowhere else

    if running_in_cloud_tpu_vm or importlib.util.find_spec("libtpu") is None:
        yield
        return
    CompileOptions()  # reads XLA_FLAGS: one that XLA does not know ends the process, with a line that is to be seen
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as unread:
            os.dup2(unread.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
