"""Eight virtual CPU devices, full float32 matmuls, and no silent broadcasting."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()
# With fewer threads than virtual devices, collectives of queued steps can wait for each other for ever.
os.environ.setdefault("PJRT_NPROC", "16")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis  # noqa: E402
import jax  # noqa: E402 - after the environment that it reads

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first call of anything compiled takes long, and test machines are noisy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
