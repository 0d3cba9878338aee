"""The chips of a slice that is only described: what the compiler needs instead of a slice."""

import jax
from jax.experimental import topologies

from srum_jax.aot.compiling import CompileRequestError

_NO_SUCH_SLICE = "INVALID_ARGUMENT"


def described_devices(topology: str, num_slices: int = 1) -> list[jax.Device]:
    """All chips of one slice, or of several of the same kind.

    Raises:
      CompileRequestError: the compiler knows no such slice.
    """
    slices = {"num_slices": num_slices} if num_slices > 1 else {}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology, **slices).devices
    except jax.errors.JaxRuntimeError as error:
        if _NO_SUCH_SLICE not in str(error):
            raise
        said = str(error).splitlines()[0]
        raise CompileRequestError(f"--topology: expected a slice that exists, found {topology!r} ({said}).") from error
