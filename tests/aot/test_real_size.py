"""The released model's train step, lowered and compiled ahead of time for a TPU slice that is not at hand."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIB = 2**30


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed on this platform")
def test_the_step_of_the_released_size_compiles_for_64_v5p_chips_and_fits():
    done = subprocess.run(
        [sys.executable, "-m", "tests.aot.compile_for_tpu", "v5p:4x4x4", "2", "32"], cwd=ROOT, capture_output=True,
        text=True, timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["parameters"] > 14.1e9
    assert report["peak_bytes"] < 16 * GIB, "two 1024-pixel samples a chip ought to leave most of 95 GiB free"
    assert report["alias_bytes"] > 5 * GIB, "the state ought to be donated"
    # Weight gradients of matrices split over their input must not leave as full-size all-reduces.
    assert report["reduce_scatters"] >= 8
    assert report["all_gathers"] >= 10
