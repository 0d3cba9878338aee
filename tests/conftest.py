"""Eight virtual CPU devices, full float32 matmuls, no silent broadcasting, and one compilation cache."""

import atexit
import gc
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: without emitters through MLIR and in one piece, XLA takes a third of the time.
FLAGS = {"force_host_platform_device_count": "8", "cpu_use_fusion_emitters": "false",
         "cpu_parallel_codegen_split_count": "1"}
given = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join([given, *(
    f"--xla_{name}={value}" for name, value in FLAGS.items() if name not in given)]).strip()
# With fewer threads than virtual devices, collectives of queued steps can wait for each other for ever.
os.environ.setdefault("PJRT_NPROC", "16")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


def _share_compiled_programs() -> None:
    """One cache for the session: made by the first process, inherited by pytest's workers and by every command.

    The key of an entry covers the program, its devices, flags and versions. A cache that the environment names is used
    as it is, and kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    directory, maker = tempfile.mkdtemp(prefix="srum-compiled-"), os.getpid()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = directory
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # Processes that fork from this one leave the folder alone.
    atexit.register(lambda: os.getpid() == maker and shutil.rmtree(directory, ignore_errors=True))


_share_compiled_programs()
gc.set_threshold(100_000, 10, 10)  # tracing makes many objects, and nearly none of them is garbage

import hypothesis  # noqa: E402
import jax  # noqa: E402 - after the environment that it reads

pytest_plugins = ["tests.gcs", "tests.faulty_bucket", "tests.fixtures"]

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first call of anything compiled takes long, and test machines are noisy.
hypothesis.settings.register_profile("ci", deadline=None, max_examples=50)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    """Workers take files as they were collected; pytest-xdist would leave the long ones, of few tests, to last."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Files with slow tests first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
