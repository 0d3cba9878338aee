"""The benchmark of the training step at the real model's shape, on what there is."""

import json
import os
import subprocess
import sys

import pytest

from srum_jax.aot.step_costs import PROMPT_TOKENS
from tests.e2e.command import ROOT


def benchmark(*arguments):
    command = [sys.executable, "-m", "benchmarks.train_step", "--device", "gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, text=True, capture_output=True,
                          timeout=600)


@pytest.mark.slow
def test_without_a_gpu_it_says_what_to_do_and_ends_with_2():
    done = benchmark()
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: --device gpu: JAX finds no GPU, only cpu.") and "cuda12" in done.stderr


@pytest.mark.slow
def test_numbers_that_make_no_sense_are_refused():
    done = benchmark("--layers", "0")
    assert done.returncode == 2 and "--layers: expected a positive number, found 0." in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--without-autoencoder", "--attention", "dense", "--rows", "2")])
def test_the_same_code_runs_at_narrow_widths_without_a_gpu(tmp_path, options):
    done = benchmark("--width-divisor", "32", "--layers", "2", "--steps", "1", "--peak", "0.1",
                     "--profile", str(tmp_path / "trace"), "--json", str(tmp_path / "step.json"), *options)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "step.json").read_text())[0]
    assert row["layers"] == 2 and row["device"] == "cpu" and row["peak GiB"] > 0
    # A row: two samples of a prompt, four markers, and 2 x 2 latents.
    assert row["tokens/s"] * row["s/step"] == pytest.approx(row["rows"] * 2 * (PROMPT_TOKENS + 4 + 4))
    assert row["MFU"] == pytest.approx(row["model TFLOP/s"] / 0.1)
    assert 0 < row["loss"] < 100
    assert list((tmp_path / "trace").glob("plugins/profile/*/*.xplane.pb"))
