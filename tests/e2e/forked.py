"""The training command in processes that fork from one which has imported everything, to start many of them quickly."""

import contextlib
import multiprocessing
import os
import sys

import jax

import experiments.tiny  # noqa: F401
from srum_jax.train import main


def fork_command(workdir, cache, *settings):
    """Starts the tiny experiment in a process of its own, with one device; what it prints goes to `workdir`.log."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    process = server.Process(target=_command, args=(str(workdir), str(cache), settings))
    process.start()
    return process


def _command(workdir, cache, settings):
    log = os.open(f"{workdir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    for name in ("XLA_FLAGS", "PJRT_NPROC"):
        with contextlib.suppress(KeyError):
            del os.environ[name]
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    sys.exit(main(["--experiment=tiny", "--workdir", workdir, *(f"--set={setting}" for setting in settings)]))
