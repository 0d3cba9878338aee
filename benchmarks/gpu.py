"""The GPU that a benchmark is for."""

import jax

from srum_jax.errors import BadInput


def first_gpu() -> jax.Device:
    """Raises BadInput, with what to do, if JAX finds none."""
    try:
        return jax.devices("gpu")[0]
    except RuntimeError as error:
        found = ", ".join(sorted({device.device_kind for device in jax.devices()}))
        raise BadInput(
            f"--device gpu: JAX finds no GPU, only {found}. Install with the extra cuda12 (pip install '.[cuda12]'), "
            "see whether nvidia-smi lists the GPU, and unset JAX_PLATFORMS."
        ) from error
