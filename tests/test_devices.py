"""A JAX backend that cannot start is an error of one line, found before anything is written."""

import os
import subprocess
import sys

import pytest

_START = "from srum_jax.devices import start_devices\nfrom srum_jax.errors import BadInput, tell\nimport sys, jax\n" \
         "try:\n    start_devices()\nexcept BadInput as error:\n    sys.exit(tell(error))\nprint(jax.default_backend())"


def start(platforms, **variables):
    environment = {**os.environ, "JAX_PLATFORMS": platforms, **variables}
    return subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("platforms", ["abacus", "cuda", "cpu,abacus"])
def test_a_platform_that_cannot_start_is_named_in_one_line_with_exit_code_2(platforms):
    done = start(platforms)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and f"JAX_PLATFORMS={platforms}" in done.stderr


def test_a_machine_without_tpus_is_not_told_so():
    done = start("")
    assert done.returncode == 0 and done.stdout.strip() and "TPU" not in done.stderr


def test_a_flag_that_xla_does_not_know_is_named_on_a_machine_with_libtpu_too():
    done = start("cpu", XLA_FLAGS="--abacus")
    assert done.returncode != 0 and "--abacus" in done.stderr
